"""What it takes a load of a known height to see: deadlines, overload, a stall, thousands of slow connections.

Each check first finds the server's capacity C, its successes a second for `CALLERS` callers. Loads are open loops from
then on: a request is sent when it is due, however slow the answers to others are, and its latency counts from that
moment. All patience and all lengths are bounded.
"""

import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.bodies import Body, payloads
from benchmarks.conformance.finding import Check, Finding, Subject, judged
from benchmarks.conformance.slow_callers import Lives, slow_callers
from benchmarks.figures import Figures, Floats, closed_loop_figures, figures, percentiles, recovery
from benchmarks.generator import Patience, Run, Watch, run_closed_loop, run_open_loop
from benchmarks.peers.errors import NotMeasured
from benchmarks.record import DROPPED, Record
from benchmarks.schedule import Phase, Schedule

GROUP = "under load"
CALLERS, CAPACITY_SECONDS = 16, 2.0
PATIENCE_SECONDS = 2.0
MAX_CONNECTIONS = 4_000
SETTLE_SECONDS = 30.0

GOODPUT_LOAD, GOODPUT_SECONDS, GOODPUT_PATIENCE, GOODPUT_SHARE = 2.0, 5.0, 1.0, 0.5
DEADLINE_SECONDS, TRANSIT_SECONDS, LATE_SHARE = 0.2, 0.1, 0.01
OVERLOAD, GROWTH_BYTES, WEIGH_SECONDS = 10.0, 64 * 2**20, 0.5
USUAL_MEMORY_SECONDS = 60.0  # longer could only let the server have more
USUAL, SURGE_SECONDS, RECOVERY_SECONDS, WATCHED_SECONDS = 0.5, 3.0, 1.0, 5.0
STALL_SECONDS, BEFORE_SECONDS = 1.0, 2.0
IN_TIME_SECONDS, IN_TIME_FACTOR = 0.1, 2.0
HEALTHY_LOAD, HEALTHY_RATE, ROUNDS, ROUND_SECONDS = 0.25, 200.0, 5, 6.0
RISE = 0.1
RECEIPT_SECONDS, CUT_LEEWAY_SECONDS = 20.0, 1.0


@dataclass(frozen=True)
class Scale:
    """How much of what takes long: seconds of overload that memory is watched for, and how many slow connections."""

    overload_seconds: float = 10.0
    slow: int = 500


def load_checks(scale: Scale) -> list[Check]:
    return [
        Check(GROUP, "at twice its capacity half of that is still answered within 1 s", _goodput),
        Check(
            GROUP, f"callers who wait {DEADLINE_SECONDS * 1e3:g} ms get no ranking after that (1 % at most)", _deadline
        ),
        Check(GROUP, "ten times its capacity costs 64 MiB of memory at most", partial(_memory, scale.overload_seconds)),
        Check(GROUP, f"back {RECOVERY_SECONDS:g} s after a surge of ten times its capacity", _surge),
        Check(GROUP, f"back {RECOVERY_SECONDS:g} s after a stall of {STALL_SECONDS:g} s", _stall),
        Check(GROUP, f"slow connections raise the p99 of others by {RISE:.0%} at most", partial(_beside, scale.slow)),
    ]


def _nobody(_elapsed: float, _record: Record) -> None:
    """Nobody watches."""


class _Load:
    """Callers of a subject; every request carries `headers`."""

    def __init__(self, subject: Subject, headers: Mapping[str, str] | None = None) -> None:
        self._target = subject.target
        self._payloads = payloads(subject.target, [Body(body, {}) for body in subject.bodies], headers or {})

    def capacity(self) -> float:
        """Successes a second, once nothing is left of an earlier load; raises NotMeasured when there are none."""
        self._settle()
        run = run_closed_loop(
            self._target,
            self._payloads,
            connections=CALLERS,
            seconds=CAPACITY_SECONDS,
            patience=Patience(PATIENCE_SECONDS),
            watch=_nobody,
        )
        found = closed_loop_figures(run, CAPACITY_SECONDS, PATIENCE_SECONDS).whole.goodput
        if not found:
            raise NotMeasured(f"not one success for {CALLERS} callers")
        return found

    def _settle(self) -> None:
        give_up_at = time.monotonic() + SETTLE_SECONDS
        while self.offer(Phase(1, 2)).record.status.tolist() != [200, 200]:
            if time.monotonic() > give_up_at:
                raise NotMeasured(f"{SETTLE_SECONDS:g} s after the load before it still does not answer")

    def offer(
        self,
        *phases: Phase,
        give_up: float = PATIENCE_SECONDS,
        watch: Watch = _nobody,
        max_connections: int = MAX_CONNECTIONS,
    ) -> Run:
        return run_open_loop(
            self._target,
            self._payloads,
            Schedule(phases),
            patience=Patience(give_up),
            max_connections=max_connections,
            watch=watch,
        )


def _goodput(subject: Subject) -> Finding:
    load = _Load(subject)
    capacity = load.capacity()
    phase = Phase(GOODPUT_SECONDS, GOODPUT_LOAD * capacity)
    found = figures(load.offer(phase, give_up=GOODPUT_PATIENCE), Schedule((phase,)), GOODPUT_PATIENCE).whole
    told = f"{found.goodput:,.0f} of {capacity:,.0f} a second, {_ends(found.statuses)}"
    return judged(told, right=found.goodput >= GOODPUT_SHARE * capacity)


def _ends(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in statuses.items())


def _deadline(subject: Subject) -> Finding:
    """At twice the capacity, from so many connections that, were all answered, each would take twice its deadline."""
    if subject.peer.deadline is None:
        return Finding("not offered", "callers cannot say how long they wait")
    capacity = _Load(subject).capacity()
    load = _Load(subject, subject.peer.deadline(DEADLINE_SECONDS))
    connections = max(CALLERS, round(2 * DEADLINE_SECONDS * capacity))
    return judge_deadline(load.offer(Phase(GOODPUT_SECONDS, 2 * capacity), max_connections=connections).record)


def judge_deadline(record: Record) -> Finding:
    """Latency counts from the sending here, and the way there and back through a busy machine is granted."""
    status, seconds = np.array(record.status), np.array(record.finished) - np.array(record.begun)
    succeeded = seconds[status == 200]
    sent = int((status != DROPPED).sum())
    late = int((succeeded > DEADLINE_SECONDS + TRANSIT_SECONDS).sum())
    p99 = percentiles(succeeded)
    told = f"{succeeded.size:,} of {sent:,} answered, {late} of them late, p99 {1e3 * p99.p99 if p99 else 0:.0f} ms"
    return judged(told, right=succeeded.size > 0 and late <= LATE_SHARE * succeeded.size)


def _memory(seconds: float, subject: Subject) -> Finding:
    load = _Load(subject)
    capacity = load.capacity()
    usual_seconds = min(seconds, USUAL_MEMORY_SECONDS)
    usual = _most_memory(subject, load, Phase(usual_seconds, capacity))[0]
    most, run = _most_memory(subject, load, Phase(seconds, OVERLOAD * capacity))
    sent = len(run.record) / run.wall_seconds
    told = (
        f"{usual / 2**20:,.0f} MiB at {capacity:,.0f} requests/s, {most / 2**20:,.0f} MiB at {sent:,.0f}"
        f" ({sent / capacity:.1f} times), {usual_seconds:g} and {seconds:g} s"
    )
    return judged(told, right=most - usual <= GROWTH_BYTES)


def _most_memory(subject: Subject, load: _Load, phase: Phase) -> tuple[int, Run]:
    """The most memory that the server's processes took while the load lasted."""
    with _weighed(subject) as weights:
        run = load.offer(phase)
    return max(weights), run


@contextmanager
def _weighed(subject: Subject) -> Iterator[list[int]]:
    """Weigh the server now and then; the list has the bytes."""
    weights, ended = [subject.server.memory_bytes()], threading.Event()

    def weigh() -> None:
        while not ended.wait(WEIGH_SECONDS):
            weights.append(subject.server.memory_bytes())

    thread = threading.Thread(target=weigh)
    thread.start()
    try:
        yield weights
    finally:
        ended.set()
        thread.join()
        weights.append(subject.server.memory_bytes())


def _surge(subject: Subject) -> Finding:
    load = _Load(subject)
    capacity = load.capacity()
    usual = USUAL * capacity
    phases = (
        Phase(BEFORE_SECONDS, usual),
        Phase(SURGE_SECONDS, OVERLOAD * capacity),
        Phase(WATCHED_SECONDS, usual),
    )
    found = figures(load.offer(*phases, give_up=GOODPUT_PATIENCE), Schedule(phases), GOODPUT_PATIENCE)
    seconds = found.recoveries[0].seconds
    return judged(_back(seconds, found), right=seconds is not None and seconds <= RECOVERY_SECONDS)


def _back(seconds: float | None, found: Figures) -> str:
    surge = f"{found.phases[1].goodput:,.0f}/s of {found.phases[1].rate:,.0f} answered in the surge"
    return f"{surge}, {'not back' if seconds is None else f'back after {seconds:.1f} s'}"


def _stall(subject: Subject) -> Finding:
    """All its processes stand still for a while, as when a machine or a neighbour takes the processor away."""
    load = _Load(subject)
    phase = Phase(BEFORE_SECONDS + STALL_SECONDS + WATCHED_SECONDS, USUAL * load.capacity())
    pause = _Pause(subject)
    try:
        run = load.offer(phase, watch=pause.watch)
    finally:
        pause.end()
    return judge_stall(run, Schedule((phase,)), pause.began_at, pause.ended_at)


class _Pause:
    """Stops a server after `BEFORE_SECONDS` and lets it go on after `STALL_SECONDS`; times as the load counts them."""

    def __init__(self, subject: Subject) -> None:
        self._server = subject.server
        self.began_at = self.ended_at = 0.0

    def watch(self, elapsed: float, _record: Record) -> None:
        if not self.began_at and elapsed >= BEFORE_SECONDS:
            self._server.signal(signal.SIGSTOP)
            self.began_at = elapsed
        elif self.began_at and not self.ended_at and elapsed >= self.began_at + STALL_SECONDS:
            self.end()
            self.ended_at = elapsed

    def end(self) -> None:
        self._server.signal(signal.SIGCONT)


def judge_stall(run: Run, schedule: Schedule, began_at: float, ended_at: float) -> Finding:
    """Back is when requests are answered about as fast again as those before the stall were."""
    before = percentiles(_latencies(run.record)[np.array(run.record.due) < began_at])
    if before is None or not ended_at or before.p99 == np.inf:
        raise NotMeasured("it did not answer all that came before the stall")
    in_time = max(IN_TIME_SECONDS, IN_TIME_FACTOR * before.p99)
    found = figures(run, schedule, in_time)
    back = recovery(found.windows, ended_at, schedule.seconds)
    again = "not answered" if back is None else f"answered after {back:.1f} s"
    told = f"{again} within {in_time * 1e3:.0f} ms as before; {_ends(found.whole.statuses)}"
    whole = set(found.whole.statuses) <= {"200", "429", "503", "504"}
    return judged(told, right=back is not None and back <= RECOVERY_SECONDS and whole)


def _latencies(record: Record) -> Floats:
    """Seconds from being due; infinite without success."""
    return np.where(np.array(record.status) == 200, np.array(record.finished) - np.array(record.due), np.inf)


def _beside(slow: int, subject: Subject) -> Finding:
    """Rounds without slow connections, with them, and without them again."""
    load = _Load(subject)
    phase = Phase(ROUND_SECONDS, min(HEALTHY_RATE, HEALTHY_LOAD * load.capacity()))
    alone = _p99s(load, phase)
    with slow_callers(subject.target, subject.ordinary.request(), slow) as callers:
        load.offer(Phase(RECEIPT_SECONDS + 2 * CUT_LEEWAY_SECONDS, phase.rate))  # all are there, and the first are cut
        beside = _p99s(load, phase)
        lives = callers.end()
    load.offer(Phase(2, phase.rate))  # the end of so many at once is none of theirs
    alone += _p99s(load, phase)
    return judge_beside(alone, beside, lives)


def _p99s(load: _Load, phase: Phase) -> list[float]:
    """The p99 of each round in seconds; infinite where a request was not answered."""
    found = [figures(load.offer(phase), Schedule((phase,)), PATIENCE_SECONDS).whole for _ in range(ROUNDS)]
    return [
        each.accepted.p99 if each.accepted is not None and each.ok == each.requests else float("inf") for each in found
    ]


def judge_beside(alone: Sequence[float], beside: Sequence[float], lives: Lives) -> Finding:
    """The median of rounds; the worst round without slow connections is what the machine does by itself.

    Raises NotMeasured when requests went unanswered without them, too.
    """
    if max(alone) == float("inf"):
        raise NotMeasured("not all requests were answered without slow connections either")
    usual, slow = statistics.median(alone), statistics.median(beside)
    told = (
        f"{lives.opened:,} opened, {lives.refused:,} refused, the longest lived {lives.longest_seconds:.1f} s; p99 of"
        f" others {usual * 1e3:.1f} ms without them ({min(alone) * 1e3:.1f} to {max(alone) * 1e3:.1f}),"
        f" {slow * 1e3:.1f} ms with them"
    )
    unharmed = slow <= max((1 + RISE) * usual, *alone)
    return judged(told, right=unharmed and lives.longest_seconds <= RECEIPT_SECONDS + CUT_LEEWAY_SECONDS)
