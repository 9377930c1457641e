"""`python -m benchmarks.conformance` without a server: who is chosen, what was found before, where it is written."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.conformance.cli import PAGE, conformance
from benchmarks.conformance.report import Examination, save
from benchmarks.conformance.suite import Row, all_checks
from benchmarks.conformance.under_load import Scale

CHECK = all_checks(Scale())[0]
FOUND = Examination("Frontrow", "2026-11-23", "2 CPUs", [Row(CHECK.group, CHECK.name, "passed", "400, closed")])


def test_what_earlier_runs_found_goes_between_the_markers_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.parent.mkdir()
    PAGE.write_text("before\n<!-- conformance:begin -->\nold\n<!-- conformance:end -->\nafter\n")
    save(FOUND, tmp_path / "build" / "conformance" / "frontrow.json")
    result = CliRunner().invoke(conformance, ["--saved", "--write", "--build", "build"])
    assert result.exit_code == 0, result.output
    page = PAGE.read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert f"| {CHECK.group} | 1 of 1 |" in page
    assert "old" not in page


def test_an_adapter_of_ones_own_takes_the_place_of_all_others(tmp_path: Path) -> None:
    save(FOUND, tmp_path / "conformance" / "frontrow.json")
    save(Examination("FastAPI", "", "", FOUND.rows), tmp_path / "conformance" / "fastapi.json")
    result = CliRunner().invoke(
        conformance, ["--adapter", "benchmarks.peers.fastapi:PEER", "--saved", "--build", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    assert "FastAPI" in result.output
    assert "Frontrow" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nobody"], "none of frontrow, fastapi"),
        (["--adapter", "nowhere:PEER"], "nowhere"),
        (["--adapter", "benchmarks.peers.fastapi:FOLDER"], "is no benchmarks.peers.peer.Peer"),
        (["--slow", "0"], "1<=x<=20000"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(conformance, arguments)
    assert result.exit_code == 2
    assert said in result.output
