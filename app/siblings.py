"""What the worker processes of a service agree on, in a file: so that one that is started later is like the others."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.experiment import Variant
from registry import Feature, Fetched
from registry.cache import write_whole

_FILE = "agreed.json"


class Agreed(msgspec.Struct, frozen=True):
    """Which bundles they serve by now, and the features of those they began with, which requests are made of."""

    bundles: Mapping[Variant, Fetched]
    features: Mapping[str, tuple[Feature, ...]]


def agree(folder: Path, agreed: Agreed) -> None:
    """Whoever is started from now on begins with this. The last word counts."""
    write_whole(folder / _FILE, msgspec.json.encode(agreed, enc_hook=str))


def read_agreed(folder: Path) -> Agreed:
    return msgspec.json.decode((folder / _FILE).read_bytes(), type=Agreed, dec_hook=lambda kind, text: kind(text))
