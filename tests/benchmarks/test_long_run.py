"""`python -m benchmarks.long_run` in small, with real processes; and what it says of services that break promises."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_models import write_models
from click.testing import CliRunner, Result

from benchmarks.long_run.cli import main
from benchmarks.long_run.ledger import Ledger, Life, Verdicts
from benchmarks.long_run.report import failed, table
from benchmarks.long_run.run import Outcome, Plan, Rest
from benchmarks.long_run.samples import Sample, least_squares, slope
from benchmarks.long_run.traffic import Alone, Bodies, Leaves, Traffic, draw_traffic

RANKING = b'[{"id":"0-0","score":0.5,"position":1}]'
OTHER = b'[{"id":"0-0","score":0.50000000000000011,"position":1}]'
RIGHT = Verdicts(lost=0, doubled=0, crossed=0, wrong=0, misjudged=0, contradicted=0)
STAYS, LEAVES, POISONED = 0, 1, 2


def body_of(number: int, ranking: bytes = RANKING, version: str = "1") -> bytes:
    head = {"request_id": str(number), "model": {"name": "m", "version": version}}
    return json.dumps(head)[:-1].encode() + b',"unknown_candidates":[],"degraded":false,"ranking":' + ranking + b"}"


@pytest.fixture
def ledger() -> Ledger:
    """Of three requests that were sent: a caller who stays, one who leaves, and one that is poisoned."""
    traffic = Traffic(
        Bodies([b"{}"], [b"{}"]),
        np.zeros(3, np.int32),
        np.array([Leaves.NEVER, Leaves.BEFORE_THE_BODY, Leaves.NEVER], np.int8),
        np.zeros(3, np.float32),
        np.array([False, False, True]),
    )
    alone = Alone()
    alone.versions["m/1"] = [(RANKING, (), False)]
    ledger = Ledger(traffic, alone)
    ledger.sent[:] = True
    return ledger


def answer(ledger: Ledger, life: Life, number: int, **changed: Any) -> None:
    given = {"request_id": str(number), "status": 500 if number == POISONED else 200, "body": body_of(number)}
    ledger.answered(life, number, **(given | changed))


def log(ledger: Ledger, life: Life, number: int, outcome: str) -> None:
    ledger.read_log(life, json.dumps({"event": "rank", "request_id": str(number), "outcome": outcome}).encode())


def all_is_well(ledger: Ledger, life: Life, *, but: int | None = None) -> None:
    """Everything as it should be, `but` for one request of which nothing is heard."""
    for number, outcome in ((STAYS, "ok"), (LEAVES, "cancelled"), (POISONED, "error")):
        if number == but:
            continue
        if number == LEAVES:
            ledger.left[LEAVES] = True
        else:
            answer(ledger, life, number)
        log(ledger, life, number, outcome)


def test_a_run_in_which_all_is_well_breaks_nothing(ledger: Ledger) -> None:
    all_is_well(ledger, Life())
    assert ledger.verdicts() == RIGHT
    assert ledger.examples == []
    assert ledger.versions == {"m/1": 1}


def test_a_request_without_an_answer_is_lost(ledger: Ledger) -> None:
    all_is_well(ledger, Life(), but=STAYS)
    assert ledger.verdicts() == RIGHT._replace(lost=1)
    assert ledger.examples == ["0 was lost: leaves never, 0 answers (none), 0 log lines (none)"]


@pytest.mark.parametrize("again", [answer, lambda *given: log(*given, "ok")], ids=["answered twice", "logged twice"])
def test_what_happens_twice_is_doubled(ledger: Ledger, again: Any) -> None:
    life = Life()
    all_is_well(ledger, life)
    again(ledger, life, STAYS)
    assert ledger.verdicts() == RIGHT._replace(doubled=1)


@pytest.mark.parametrize("changed", [{"request_id": "7"}, {"body": body_of(7)}], ids=["in the header", "in the body"])
def test_an_answer_to_somebody_else_is_crossed(ledger: Ledger, changed: dict[str, Any]) -> None:
    life = Life()
    all_is_well(ledger, life, but=STAYS)
    answer(ledger, life, STAYS, **changed)
    log(ledger, life, STAYS, "ok")
    assert ledger.verdicts() == RIGHT._replace(crossed=1)


@pytest.mark.parametrize(
    "body", [body_of(STAYS, OTHER), body_of(STAYS, version="2")], ids=["another last bit", "another model version"]
)
def test_what_the_named_version_does_not_say_alone_is_wrong(ledger: Ledger, body: bytes) -> None:
    life = Life()
    all_is_well(ledger, life, but=STAYS)
    answer(ledger, life, STAYS, body=body)
    log(ledger, life, STAYS, "ok")
    assert ledger.verdicts() == RIGHT._replace(wrong=1)


def test_a_failure_without_poison_and_poison_without_a_failure_are_misjudged(ledger: Ledger) -> None:
    life = Life()
    all_is_well(ledger, life, but=POISONED)
    answer(ledger, life, POISONED, status=200)
    log(ledger, life, POISONED, "ok")
    assert ledger.verdicts() == RIGHT._replace(misjudged=1)


@pytest.mark.parametrize(("number", "outcome"), [(STAYS, "cancelled"), (LEAVES, "ok")])
def test_a_log_that_says_otherwise_contradicts(ledger: Ledger, number: int, outcome: str) -> None:
    life = Life()
    all_is_well(ledger, life, but=number)
    if number == STAYS:
        answer(ledger, life, STAYS)
    ledger.left[LEAVES] = True
    log(ledger, life, number, outcome)
    assert ledger.verdicts() == RIGHT._replace(contradicted=1)


def test_metrics_must_say_what_callers_and_log_say() -> None:
    life = Life(arrived=5, answered=Counter(ok=3, shed=1), logged=Counter(ok=3, cancelled=1))
    assert life.differences(Counter(offered=5, ok=3, cancelled=1, shed=1)) == []
    assert life.differences(Counter(offered=4, ok=3, cancelled=1)) != []
    assert life.differences(Counter(offered=5, ok=4, cancelled=1)) == [
        "ok: 4 counted and 3 expected",
        "shed: 0 counted, 1 answered and 0 logged",
    ]
    assert life.differences(Counter(offered=5, ok=3, cancelled=1)) != []


def test_traffic_is_drawn_in_the_shares_that_were_promised() -> None:
    bodies = Bodies([b"{}"] * 10, [b"{}"] * 10)
    traffic = draw_traffic(bodies, 10_000)
    assert len(traffic) == 10_000
    assert traffic.poisoned.sum() == 10
    assert np.mean(traffic.leaves != Leaves.NEVER) == pytest.approx(0.34, abs=0.02)
    assert set(traffic.body.tolist()) == set(range(10))


def test_growth_is_found_with_its_error() -> None:
    random = np.random.default_rng(1)
    hours = np.linspace(0, 1, 3_601)
    noise = np.repeat(random.normal(0, 1, 121), 30)[: len(hours)]  # steps of half a minute
    found, error = least_squares(hours, 5 + 2 * hours + noise, lags=60)
    assert abs(found - 2) < 3 * error
    _, naive = least_squares(hours, 5 + 2 * hours + noise, lags=0)
    assert error > 3 * naive


def test_a_short_run_does_not_tell_how_fast_a_process_grows() -> None:
    samples = [Sample(float(second), second * 2**20, 0, 0, 0, 0) for second in range(1_000)]
    assert slope(samples, "rss", warm_up_seconds=900) is None
    found = slope(samples, "rss", warm_up_seconds=100)
    assert found is not None
    assert (found.mib_per_hour, found.error, found.seconds) == (pytest.approx(3_600), pytest.approx(0, abs=1e-6), 899)


def outcome(ledger: Ledger, *, growth: int = 0, tasks: int = 3, differences: Sequence[str] = ()) -> Outcome:
    """Of ten minutes in which all was well, but for `growth` bytes a second, and what the last rest found."""
    all_is_well(ledger, Life())
    samples = [Sample(float(second), second * growth, 0, 24, 14, 3) for second in range(600)]
    rests = [Rest(samples[300], []), Rest(samples[599]._replace(tasks=tasks), list(differences))]
    plan = Plan((Path("a"), Path("b")), 3, 10.0, 120.0, 30.0)
    return Outcome(plan, ledger, ledger.verdicts(), 600.0, rests, 4, 19, samples, [samples[:60]])


def test_a_run_that_kept_every_promise_says_so(ledger: Ledger) -> None:
    kept = outcome(ledger)
    assert not failed(kept)
    assert "broken" not in table(kept)
    assert "| RSS, MiB/h | +0.00 ± 0.00 from 5 min | at most 1 | holds |" in table(kept)


@pytest.mark.parametrize(
    ("broken", "row"),
    [
        ({"growth": 2**10}, "| RSS, MiB/h | +3.52 ± 0.00 from 5 min | at most 1 | **broken** |"),
        ({"tasks": 4}, "| asyncio tasks at rest, 2 times | 3 to 4 | constant | **broken** |"),
        (
            {"differences": ["ok: 1 counted"]},
            "| rests at which metrics and callers differ, of 2 | 1 | 0 | **broken** |",
        ),
    ],
)
def test_what_grows_or_differs_is_a_broken_promise(ledger: Ledger, broken: dict[str, Any], row: str) -> None:
    told = outcome(ledger, **broken)
    assert failed(told)
    assert row in table(told)


# ---- the whole of it ----


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    return folder


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start fast, and do not measure what scoring costs on a busy machine."""
    for name, value in {"ENGINE": "reference", "PINNED_BATCH_US": "100", "PINNED_ROW_US": "1"}.items():
        monkeypatch.setenv(f"FRONTROW_{name}", value)


def run(bundles: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [str(bundles / "control"), str(bundles / "treatment"), *options])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_thousand_requests_with_a_sigterm_and_swaps_break_no_promise(bundles: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- long-run:begin -->\nold\n<!-- long-run:end -->\nafter\n")
    rhythm = ("--minutes", "0.15", "--sigterm-seconds", "2", "--swap-seconds", "1")
    result = run(bundles, "--requests", "3000", *rhythm, "--write", str(page))
    assert result.exit_code == 0, result.output
    found = {
        row.split("|")[1].strip(): row.split("|")[2].strip() for row in result.stdout.splitlines()[2:] if "|" in row
    }
    assert found["requests"].startswith("3,000 in ")
    assert found["lost"] == found["doubled"] == found["crossed"] == "0"
    assert int(found["SIGTERMs amid requests, all with exit code 0"]) > 0
    assert int(found["model swaps"]) > 0
    assert "activity-ranker/1: " in found["answered 200, by model version"]
    assert "activity-ranker/2: " in found["answered 200, by model version"]
    text = page.read_text()
    assert text.startswith("before\n<!-- long-run:begin -->\n| | found")
    assert text.endswith("![What the lasting process held](page.svg)\n<!-- long-run:end -->\nafter\n")
    assert (tmp_path / "page.svg").read_text().startswith("<?xml")


def test_bundles_that_cannot_be_told_apart_are_one_line(bundles: Path) -> None:
    same = str(bundles / "control")
    result = CliRunner().invoke(main, [same, same, "--requests", "1"])
    assert result.exit_code == 1
    assert "Error: both bundles are activity-ranker/1: answers could not be told apart" in result.stderr


def test_a_page_without_markers_is_refused_before_anything_starts(bundles: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    result = run(bundles, "--write", str(page))
    assert result.exit_code == 1
    assert "there is no <!-- long-run:begin -->" in result.stderr
