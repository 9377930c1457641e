"""What the server itself counted, from two scrapes of its `/metrics`, and the CPU seconds of its process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchError, Unreachable
from benchmarks.record import BROKEN, GAVE_UP, NO_ANSWER
from benchmarks.target import Target

OUTCOMES = "frontrow_requests_total"
CPU = "process_cpu_seconds_total"
_OUTCOME_OF_STATUS = {"503": "shed", "504": "expired"}
_UNSURE = {NO_ANSWER[GAVE_UP], NO_ANSWER[BROKEN]}


@dataclass(frozen=True)
class Snapshot:
    """Requests by outcome so far (None: the server does not tell), CPU seconds so far (None: nobody tells)."""

    outcomes: dict[str, int] | None
    cpu_seconds: float | None


@dataclass(frozen=True)
class ServerSide:
    """What the server counted in a run, beside what the callers saw.

    `agree`: both sides are equal, outcome by outcome; None where the server does not tell, or where callers hung up
    and so cannot know how it ended there.
    """

    outcomes: dict[str, int] | None
    expected: dict[str, int]
    agree: bool | None
    cpu_seconds: float | None


class NoSuchProcess(BenchError):
    """`--pid` names no process that can be read."""


def snapshot(target: Target, pid: int | None) -> Snapshot:
    """Scrape once. The CPU seconds are those of `pid` and its children, else what the scrape says."""
    samples = read_metrics(target)
    outcomes: dict[str, int] = {}
    cpu = None
    for name, labels, value in samples:
        if name == OUTCOMES:
            outcomes[labels["outcome"]] = outcomes.get(labels["outcome"], 0) + int(value)
        elif name == CPU:
            cpu = value
    return Snapshot(outcomes or None, cpu if pid is None else cpu_seconds_of(pid))


def read_metrics(target: Target) -> list[tuple[str, Mapping[str, str], float]]:
    """Name, labels and value of each series; none where the server does not tell."""
    try:
        answer = target.request("GET", "/metrics")
        if answer.status != 200:
            return []
        families = text_string_to_metric_families(answer.body.decode())
        return [(each.name, each.labels, each.value) for family in families for each in family.samples]
    except (Unreachable, ValueError):
        return []


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds of a process and its children so far; raises NoSuchProcess."""
    import psutil

    try:
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    except psutil.Error as error:
        raise NoSuchProcess(f"process {pid}: {error}") from error
    return float(sum(each.user + each.system for each in times))


def compare(before: Snapshot, after: Snapshot, sends: Mapping[str, int]) -> ServerSide:
    """Hold the server's counts of a run against how the callers' sends ended."""
    expected = _expected(sends)
    cpu = None if before.cpu_seconds is None or after.cpu_seconds is None else after.cpu_seconds - before.cpu_seconds
    if before.outcomes is None or after.outcomes is None:
        return ServerSide(None, expected, None, cpu)
    counted = {name: after.outcomes[name] - before.outcomes.get(name, 0) for name in after.outcomes}
    counted = {name: count for name, count in counted.items() if count}
    sure = not any(sends.get(name) for name in _UNSURE)
    return ServerSide(counted, expected, counted == expected if sure else None, cpu)


def _expected(sends: Mapping[str, int]) -> dict[str, int]:
    """The server's outcomes that would explain the answers which the callers got."""
    expected: dict[str, int] = {}
    for status, count in sends.items():
        if status.isdigit():
            outcome = _OUTCOME_OF_STATUS.get(status) or {"2": "ok", "4": "invalid"}.get(status[0], "error")
            expected[outcome] = expected.get(outcome, 0) + count
    return expected


@dataclass(frozen=True)
class AnswerCosts:
    """CPU seconds of the server for one success and for one refusal."""

    success: float
    refusal: float


def answer_costs(runs: Sequence[tuple[int, int, float]]) -> AnswerCosts | None:
    """Split the server's CPU seconds over `(successes, refusals, CPU seconds)` of several runs, by least squares.

    None where the runs do not tell the two apart: it takes one with and one (nearly) without refusals, on a machine
    quiet enough that neither cost comes out below 0.
    """
    table = np.array(runs, dtype=float).reshape(-1, 3)
    answers, seconds = table[:, :2], table[:, 2]
    if len(runs) < 2 or not answers.any(axis=0).all() or np.linalg.matrix_rank(answers) < 2:
        return None
    success, refusal = np.linalg.lstsq(answers, seconds)[0].tolist()
    return AnswerCosts(success, refusal) if min(success, refusal) > 0 else None
