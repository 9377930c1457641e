"""From a bundle to a model that scores, or a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from registry.bundle import GOLDEN, MODEL, Bundle, parse_text, read_bundle
from registry.errors import BundleError
from registry.golden import check_golden
from registry.signature import check_features
from scoring import Engine, EngineKind, ModelText, ModelTextError, NotCompilableError, VerificationError, load_engine


@dataclass(frozen=True)
class Model:
    """A verified model: its bundle, what scores its rows, since when it is loaded, and what golden scores it gave."""

    bundle: Bundle
    engine: Engine
    loaded_at: datetime
    golden_sha256: str


def load_model(folder: Path, engine: EngineKind = "auto") -> Model:
    """Load the model of a bundle and verify everything the bundle says of it. Needs neither MLflow nor pandas.

    Raises `BundleError` when a digest, the feature list, the number of trees or the last bit of a golden score does
    not hold, or when the engine asked for cannot score the model.
    """
    bundle = read_bundle(folder)
    content = bundle.read(MODEL)
    with _refused_at(folder):
        text = parse_text(content)
        _check_description(bundle, text)
    golden = bundle.golden()
    with _refused_at(folder):
        loaded = load_engine(text, engine, golden_rows=golden.rows, tables=bundle.tables)
    with _refused_at(folder / GOLDEN):
        golden_sha256 = check_golden(golden, loaded)
    return Model(bundle, loaded, datetime.now(UTC), golden_sha256)


@contextmanager
def _refused_at(place: Path) -> Iterator[None]:
    """Whatever is refused is a `BundleError` that begins with the place."""
    try:
        yield
    except (BundleError, ModelTextError, NotCompilableError, VerificationError) as error:
        raise BundleError(f"{place}: {error}") from error


def _check_description(bundle: Bundle, text: ModelText) -> None:
    check_features(bundle.features, text)
    for what, said, found in (
        ("trees", bundle.trees, len(text.trees)),
        ("objective", bundle.objective, text.objective),
    ):
        if said != found:
            raise BundleError(f"{what} is {said!r} in bundle.json and {found!r} in {MODEL}")
