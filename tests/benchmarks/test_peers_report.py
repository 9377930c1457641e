"""What a comparison says of itself. No server runs here."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from benchmarks.page import BadPage, write_into
from benchmarks.peers import closed_loop
from benchmarks.peers.cli import peers, turns
from benchmarks.peers.closed_loop import ClosedLoop
from benchmarks.peers.measure import Figures, OpenLoop, Outcome
from benchmarks.peers.picture import capacities, draw
from benchmarks.peers.report import Comparison, load, markdown, save
from benchmarks.peers.rounds import middle
from benchmarks.peers.targets import Results, verdicts

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
TITLES = {"frontrow": "Frontrow", "echo": "bare echo", "fastapi": "FastAPI", "mosec": "mosec"}


def figures(per_second: float, p50: float = 0.0004, p99: float = 0.002, failures: int = 0) -> Figures:
    closed = [ClosedLoop(1, 900, per_second / 2, p50, p99, p99, 0, 0.1)]
    closed.append(ClosedLoop(32, 900, per_second, 10 * p50, 10 * p99, 10 * p99, failures, 0.4))
    half = OpenLoop(per_second / 2, 2 * p50, 2 * p99, 0, 0.0003, 0.2)
    return Figures(1.25, closed, half, 0.0005, 96 * 2**20)


def comparison(*outcomes: Outcome) -> Comparison:
    return Comparison("2026-11-23 12:00 UTC", "2 CPUs", 5, 3, TITLES, outcomes)


MEASURED = comparison(
    Outcome("fastapi", "inline", 50, figures(500)),
    Outcome("frontrow", "inline", 50, figures(4_000, failures=100)),
    Outcome("mosec", "inline", 50, None, "pip exits with 1"),
    Outcome("frontrow", "catalog", 50, figures(9_000)),
    Outcome("mosec", "catalog", 50, figures(1_000)),
    Outcome("frontrow", "catalog", 1_000, figures(700, p50=0.0015)),
    Outcome("echo", "catalog", 50, figures(20_000)),
)


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_ratios_latencies_memory_and_start() -> None:
    text = markdown(MEASURED)
    assert row(text, "FastAPI") == [
        "FastAPI", "500", "8.0 x", "0.40 / 2.00", "4.00 / 20", "0.80 / 4.00", "0.50 ms", "96 MiB", "1.2 s",
    ]  # fmt: skip
    assert row(text, "Frontrow")[1:3] == ["4,000", ""]
    assert text.index("| Frontrow") < text.index("| FastAPI")


def test_who_was_not_measured_stands_in_the_table_with_the_reason() -> None:
    assert row(markdown(MEASURED), "mosec") == ["mosec", "not measured: pip exits with 1"]


def test_answers_that_were_no_success_are_told() -> None:
    assert "Frontrow, inline, 32 callers: 10.0% of the answers were no success" in markdown(MEASURED)


def test_the_generators_cost_is_told_and_whether_it_was_the_limit() -> None:
    assert "took at most 40% of a core: never the limit" in markdown(MEASURED)
    busy = ClosedLoop(32, 900, 30_000, 0.001, 0.002, 0.002, 0, 0.97)
    hindered = Outcome("echo", "catalog", 50, Figures(1, [busy], None, 0, 1))
    assert "took at most 97% of a core: the limit of some" in markdown(comparison(hindered))


def test_targets_are_judged_by_the_best_peer_and_the_echo() -> None:
    found = {each.target: (each.measured, each.met) for each in verdicts(Results(MEASURED.outcomes))}
    assert found["inline: 5 times the answers of the best peer (fastapi)"] == ("8.0 times", True)
    assert found["inline: 7 times the answers of FastAPI"] == ("8.0 times", True)
    assert found["catalog: 15 times the answers of the best peer (mosec)"] == ("9.0 times", False)
    assert found["catalog: 40% of a bare echo"] == ("45%", True)
    assert found["catalog: p50 of one caller within 0.5 ms"] == ("0.40 ms", True)
    assert found["catalog: p50 of one caller with 1,000 candidates within 2 ms"] == ("1.50 ms", True)
    assert not any("5,000" in target for target in found)


def test_a_target_without_figures_is_not_judged() -> None:
    assert verdicts(Results([Outcome("fastapi", "inline", 50, figures(500))])) == []


def test_results_can_be_kept_and_told_again(tmp_path: Path) -> None:
    save(MEASURED, tmp_path / "results.json")
    assert markdown(load(tmp_path / "results.json")) == markdown(MEASURED)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(BadPage, match="began_at"):
        load(tmp_path / "other.json")


def test_the_tables_go_between_the_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new\n", "peers")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(BadPage, match="there is no"):
        write_into(page, "new\n", "peers")
    assert page.read_text() == "no place"


def test_earlier_results_are_written_into_the_page_with_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "performance.md").write_text(f"{BEGIN}\n{END}\n")
    save(MEASURED, tmp_path / "results.json")
    result = CliRunner().invoke(peers, ["--from", "results.json", "--write"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "docs" / "performance.md").read_text()
    assert markdown(MEASURED) in page
    assert "(peers.svg)" in page
    assert (tmp_path / "docs" / "peers.svg").exists()


def test_the_picture_shows_who_was_measured_the_most_first(tmp_path: Path) -> None:
    assert list(capacities(MEASURED, "inline").items()) == [("Frontrow", 4_000), ("FastAPI", 500)]
    draw(MEASURED, tmp_path / "peers.svg")
    said = " ".join(ET.parse(tmp_path / "peers.svg").getroot().itertext())
    for text in ("inline", "catalog", "mosec", "9,000"):
        assert text in said


def test_each_server_has_a_turn_with_each_workload() -> None:
    every = turns(["frontrow", "echo", "fastapi", "mosec"], 5)
    assert [(turn.peer.name, turn.workload, turn.candidates) for turn in every] == [
        ("frontrow", "inline", 50),
        ("fastapi", "inline", 50),
        ("mosec", "inline", 50),
        ("frontrow", "catalog", 50),
        ("fastapi", "catalog", 50),
        ("mosec", "catalog", 50),
        ("frontrow", "catalog", 1_000),
        ("frontrow", "catalog", 5_000),
        ("echo", "catalog", 50),
    ]
    assert [turn.workload for turn in turns(["mosec"], 5)] == ["inline", "catalog"]


def test_of_rounds_each_figure_is_the_middle_one() -> None:
    rounds = [
        Outcome("mosec", "inline", 50, figures(*each)) for each in ((700, 0.3, 0.2), (900, 0.1, 0.6), (800, 0.2, 0.4))
    ]
    found = middle([*rounds, Outcome("mosec", "inline", 50, None, "it ended")]).figures
    assert found is not None
    assert found.open is not None
    assert (found.capacity, found.open.p99, [run.p50 for run in found.closed]) == (800, 0.8, [0.2, 2.0])


def test_of_two_rounds_the_worse_one_counts() -> None:
    found = middle(
        [Outcome("mosec", "inline", 50, figures(*each)) for each in ((700, 0.3, 0.4), (900, 0.1, 0.2))]
    ).figures
    assert found is not None
    assert found.open is not None
    assert (found.capacity, found.open.p99) == (700, 0.8)


def test_a_server_that_no_round_measured_has_a_reason() -> None:
    ended, refused = (Outcome("mosec", "inline", 50, None, reason) for reason in ("it ended", "it refused"))
    assert middle([ended, refused]) == ended


def test_a_name_that_nobody_has_is_refused() -> None:
    result = CliRunner().invoke(peers, ["--only", "frontrow,gunicorn"])
    assert result.exit_code == 2
    assert "'gunicorn' is none of frontrow, echo, fastapi" in result.output


def test_wrk_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(closed_loop.NoGenerator, match="wrk is not installed"):
        closed_loop.check_generator()


def test_what_wrk_says_becomes_figures_of_successes() -> None:
    said: dict[str, Any] = {"answers": 1_000, "microseconds": 2_000_000, "refused": 100, "broken": 3, "late": 1}
    said |= {"p50": 400, "p99": 2_000, "max": 9_000}
    run = closed_loop.read_result(f"Running 2s test\n{json.dumps(said)}\n", 32, generator_share=0.1)
    assert run == ClosedLoop(32, 900, 450.0, 0.0004, 0.002, 0.009, 104, 0.1)


def test_payloads_are_written_with_their_lengths(tmp_path: Path) -> None:
    closed_loop.write_payloads([b"POST / one", b"POST /\n"], tmp_path / "payloads")
    assert (tmp_path / "payloads").read_bytes() == b"10\nPOST / one7\nPOST /\n"
