"""A record in figures. Nothing is estimated: every percentile is one of the measured values (nearest rank)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from benchmarks.generator import Run
from benchmarks.record import DROPPED, NO_ANSWER, PENDING, Record
from benchmarks.schedule import Schedule, falls

WINDOW_SECONDS = 0.1
RECOVERED = 0.99  # share of the requests that are answered in time
LATE_GENERATOR_SECONDS = 0.005

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Percentiles:
    """Seconds; `count` is how many values they are of."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Stretch:
    """What became of the requests that were due in a stretch of time.

    `rate`: offered requests a second; `goodput`: 2xx a second that came by the deadline; `late`: 2xx after it;
    `statuses`: requests by final HTTP status or by why there is none; `accepted`: latency of every 2xx, the late ones
    included, from the moment the request was due; `refusals`: the same for 503, retried sends from their sending.
    """

    seconds: float
    rate: float
    requests: int
    ok: int
    late: int
    goodput: float
    statuses: dict[str, int]
    accepted: Percentiles | None
    refusals: Percentiles | None


@dataclass(frozen=True)
class Windows:
    """Requests by the 100 ms in which they were due: how many, and how many of them were answered in time."""

    seconds: float
    due: list[int]
    ok: list[int]


@dataclass(frozen=True)
class Cost:
    """What the generator itself took: CPU seconds, its share of one core, and how late it was (seconds)."""

    cpu_seconds: float
    cpu_share: float
    late: Percentiles
    most_connections: int


@dataclass(frozen=True)
class Recovery:
    """`seconds` from the fall of the load at `at` until goodput equals the load; None: not before the phase ended."""

    at: float
    seconds: float | None


@dataclass(frozen=True)
class Figures:
    """A run: all of it, each of its phases, and what made it. `sends` counts how each send ended, retries too."""

    whole: Stretch
    phases: list[Stretch]
    windows: Windows
    recoveries: list[Recovery]
    generator: Cost
    sends: dict[str, int]

    @property
    def dropped(self) -> int:
        return self.sends.get(NO_ANSWER[DROPPED], 0)

    @property
    def faults(self) -> list[str]:
        """Why the run is invalid; empty for a valid one."""
        if not self.dropped:
            return []
        return [f"{self.dropped:,} requests were dropped, as every allowed connection was taken"]

    @property
    def warnings(self) -> list[str]:
        late = self.generator.late.p99
        if late <= LATE_GENERATOR_SECONDS:
            return []
        return [
            f"the generator was late (p99 {late * 1e3:.1f} ms), and latencies include that: it needs a core of its own"
        ]


def percentiles(seconds: Floats) -> Percentiles | None:
    """Nearest-rank percentiles, or None of nothing."""
    if not seconds.size:
        return None
    p50, p90, p99, p999, most = np.quantile(seconds, [0.5, 0.9, 0.99, 0.999, 1], method="inverted_cdf").tolist()
    return Percentiles(seconds.size, p50, p90, p99, p999, most)


def figures(run: Run, schedule: Schedule, deadline_seconds: float) -> Figures:
    """Figures of an open-loop run of `schedule`, where an answer is good when it came within `deadline_seconds`."""
    table = _Table(run.record, deadline_seconds)
    bounds = np.searchsorted(table.due, schedule.starts()).tolist()
    bounds[-1] = len(table.due)
    spans = [slice(first, last) for first, last in pairwise(bounds)]
    phases = [table.stretch(span, phase.seconds) for span, phase in zip(spans, schedule.phases, strict=True)]
    windows = table.windows(schedule.seconds)
    return Figures(
        whole=table.stretch(slice(None), schedule.seconds),
        phases=phases,
        windows=windows,
        recoveries=_recoveries(windows, schedule),
        generator=cost(run),
        sends=named(run.record.endings),
    )


def closed_loop_figures(run: Run, seconds: float, deadline_seconds: float) -> Figures:
    """Figures of a closed-loop run of `seconds`; its successes a second are the capacity for that many callers."""
    table = _Table(run.record, deadline_seconds)
    whole = table.stretch(slice(None), seconds)
    return Figures(whole, [whole], table.windows(seconds), [], cost(run), named(run.record.endings))


def cost(run: Run) -> Cost:
    late = percentiles(np.array(run.record.begun) - np.array(run.record.due))
    assert late is not None
    return Cost(run.cpu_seconds, run.cpu_seconds / run.wall_seconds, late, run.most_connections)


def named(counts: Counter[int]) -> dict[str, int]:
    """Counts under `200`, `503`, ..., `dropped`, `gave up`, `broken connection`."""
    return {NO_ANSWER.get(status, str(status)): counts[status] for status in sorted(counts, reverse=True)}


class _Table:
    """A record as columns."""

    def __init__(self, record: Record, deadline_seconds: float) -> None:
        self.due = np.array(record.due)
        self.status = np.array(record.status)
        self.latency = np.array(record.finished) - self.due
        self.success = (self.status >= 200) & (self.status < 300)
        self.ok = self.success & (self.latency <= deadline_seconds)
        self._refusals = np.array(record.refusals)
        self._refused_requests = np.array(record.refused, dtype=np.int64)
        assert PENDING not in self.status

    def stretch(self, span: slice, seconds: float) -> Stretch:
        ok, success, status = self.ok[span], self.success[span], self.status[span]
        return Stretch(
            seconds=seconds,
            rate=len(ok) / seconds,
            requests=len(ok),
            ok=int(ok.sum()),
            late=int(success.sum() - ok.sum()),
            goodput=float(ok.sum() / seconds),
            statuses=named(Counter(status.tolist())),
            accepted=percentiles(self.latency[span][success]),
            refusals=percentiles(self._refusals[self._of_span(span)]),
        )

    def windows(self, seconds: float) -> Windows:
        edges = np.arange(math.ceil(seconds / WINDOW_SECONDS - 1e-9) + 1) * WINDOW_SECONDS
        edges[-1] = np.inf
        moments = self.due + 1e-9  # 3 * 0.1 is over 0.3
        due, ok = (np.histogram(each, edges)[0].tolist() for each in (moments, moments[self.ok]))
        return Windows(WINDOW_SECONDS, due, ok)

    def _of_span(self, span: slice) -> Flags:
        first, last, _ = span.indices(len(self.due))
        return (self._refused_requests >= first) & (self._refused_requests < last)


def _recoveries(windows: Windows, schedule: Schedule) -> list[Recovery]:
    starts = schedule.starts()
    return [
        Recovery(starts[phase], recovery(windows, starts[phase], starts[phase + 1])) for phase in falls(schedule.phases)
    ]


def recovery(windows: Windows, start: float, end: float) -> float | None:
    """Seconds from `start` until both the next whole second and all the rest until `end` go well."""
    first, last, second = (round(moment / windows.seconds) for moment in (start, end, 1))
    for window in range(first, last - second + 1):
        if min(_share(windows, window, window + second), _share(windows, window, last)) >= RECOVERED:
            return (window - first) * windows.seconds
    return None


def _share(windows: Windows, first: int, last: int) -> float:
    due: Sequence[int] = windows.due[first:last]
    return sum(windows.ok[first:last]) / max(1, sum(due))
