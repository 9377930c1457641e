"""Which code runs: what the build says, else what git says."""

import re
import shutil
from pathlib import Path

import pytest

from registry import code_revision

HOUSE = Path(__file__).parents[2]


def test_what_is_configured_wins() -> None:
    assert code_revision("1a2b3c") == "1a2b3c"


@pytest.mark.skipif(not (HOUSE / ".git").exists() or not shutil.which("git"), reason="no checkout to ask git about")
def test_a_checkout_is_named_by_its_revision() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", code_revision(None))


def test_without_git_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code_revision(None) == "unknown"
