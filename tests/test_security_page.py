"""The page about security names a test for each attack, and each of those tests is there."""

import re
from pathlib import Path

HOUSE = Path(__file__).parents[1]
PAGE = (HOUSE / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


def attacks() -> list[str]:
    """Lines of the tables of attacks."""
    tables = PAGE.split("| attack | answer | shown by |\n|---|---|---|\n")[1:]
    return [line for table in tables for line in table.split("\n\n")[0].splitlines()]


def test_every_attack_has_an_answer_and_a_test() -> None:
    assert len(attacks()) >= 30
    for line in attacks():
        assert re.fullmatch(r"\|[^|]+\|[^|]+\| `tests/[\w/]+\.py::test_\w+` \|", line), line


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        f"{file}::{test}"
        for file, test in NAMED
        if not re.search(rf"^(?:async )?def {test}\(", (HOUSE / file).read_text(), re.MULTILINE)
    ]
    assert not missing


def test_every_setting_header_and_path_of_the_code_that_is_named_is_there() -> None:
    for path in re.findall(r"`(k8s/[\w/]+)`", PAGE):
        assert (HOUSE / path).exists(), path
