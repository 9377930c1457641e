"""One server with one workload: start it, hold its answers against Booster.predict, load it, weigh it."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bodies import Body, payloads
from benchmarks.errors import BenchError, Unreachable
from benchmarks.figures import figures
from benchmarks.generator import Patience, run_open_loop
from benchmarks.peers.closed_loop import PATIENCE_SECONDS, ClosedLoop, drive, write_payloads
from benchmarks.peers.environment import python_of
from benchmarks.peers.errors import NotMeasured, NotStarted, WrongAnswer
from benchmarks.peers.peer import Peer, Place, Workload, free_port
from benchmarks.peers.query import Query
from benchmarks.peers.running import ASK_AGAIN_SECONDS, Server, run_to_end, running
from benchmarks.record import Record
from benchmarks.schedule import Phase, Schedule
from benchmarks.server_side import cpu_seconds_of
from benchmarks.target import Answer, Target

CALLERS_WHO_CHECK = 8  # so that batched answers are checked as well
CALLERS_WHO_WARM_UP = 32
WARM_UP_SECONDS = 2.0
MAX_CONNECTIONS = 2_000
FIRST_ANSWER_SECONDS = 30.0
SHOWN_SCORES = 3

Say = Callable[[str], None]
"""Hears what is being done now."""


@dataclass(frozen=True)
class OpenLoop:
    """Requests sent when they were due, `rate` a second: latency in seconds from that moment.

    `failures`: how many were not answered with 2xx; `generator_late`: how late they were sent, p99 in seconds.
    """

    rate: float
    p50: float
    p99: float
    failures: int
    generator_late: float
    generator_share: float


@dataclass(frozen=True)
class Figures:
    """What was measured of one server with one workload.

    `start_seconds`: until the first right answer; `cpu_seconds`: of all its processes, for one answer, under the load
    that it answered most of; `memory_bytes`: after the load, what processes share counted once.
    """

    start_seconds: float
    closed: Sequence[ClosedLoop]
    open: OpenLoop | None
    cpu_seconds: float
    memory_bytes: int

    @property
    def capacity(self) -> float:
        """The most answers a second, whatever the number of callers."""
        return max(run.per_second for run in self.closed)


@dataclass(frozen=True)
class Outcome:
    """Figures, or why there are none."""

    peer: str
    workload: str
    candidates: int
    figures: Figures | None
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is done with each server: closed loops of `connections`, ascending, each `seconds` long.

    An open loop at half of its capacity follows where `half` says so.
    """

    connections: Sequence[int]
    seconds: float
    half: bool = True


@dataclass(frozen=True)
class Site:
    """Where everything is on this machine: environments and scratch under `build`, the bundle, the peers' model."""

    build: Path
    bundle: Path
    model: Path


def measure(peer: Peer, workload: Workload, queries: Sequence[Query], plan: Plan, *, site: Site, say: Say) -> Outcome:
    """Measure one server; whatever goes wrong with it is in the outcome, and the next one has its turn."""
    candidates = len(queries[0].ids)
    try:
        say("environment")
        python = python_of(peer, site.build / peer.name)
        scratch = site.build / "scratch" / f"{peer.name}-{workload}"
        scratch.mkdir(parents=True, exist_ok=True)
        place = Place(python, free_port(), workload, site.bundle, site.model, scratch)
        return Outcome(peer.name, workload, candidates, _measure(peer, place, queries, plan, say))
    except BenchError as error:
        return Outcome(peer.name, workload, candidates, None, str(error))


def _measure(peer: Peer, place: Place, queries: Sequence[Query], plan: Plan, say: Say) -> Figures:
    if peer.prepare is not None:
        say("preparing")
        run_to_end(peer.prepare(place), place.scratch / "prepare.log")
    target = Target("127.0.0.1", place.port, peer.paths[place.workload], tls=False)
    bodies = [body_of(peer, query, place.workload) for query in queries]
    say("starting")
    with running(peer.launch(place), place.scratch / "server.log") as server:
        start_seconds = _wait_for_an_answer(server, peer, target, bodies[0])
        say("checking answers")
        check_answers(peer, target, bodies, queries, callers=min(CALLERS_WHO_CHECK, plan.connections[-1]))
        return _under_load(_Load(target, bodies, place.scratch / "payloads", server), plan, say, start_seconds)


def _under_load(load: "_Load", plan: Plan, say: Say, start_seconds: float) -> Figures:
    say("warm-up")
    load.closed(min(CALLERS_WHO_WARM_UP, plan.connections[-1]), min(WARM_UP_SECONDS, plan.seconds))
    runs: list[tuple[ClosedLoop, float]] = []
    for connections in plan.connections:
        say(f"closed loop of {connections}")
        runs.append(load.closed(connections, plan.seconds))
    best, cpu_seconds = max(runs, key=lambda run: run[0].per_second)
    if not best.answers:
        raise NotMeasured(f"not one success under load: {load.server.last_words()}")
    half = None
    if plan.half:
        say("half of its capacity")
        half = load.open(best.per_second / 2, plan.seconds)
    return Figures(start_seconds, [run for run, _ in runs], half, cpu_seconds, load.server.memory_bytes())


def body_of(peer: Peer, query: Query, workload: Workload) -> Body:
    return Body(json.dumps(peer.body(query, workload), separators=(",", ":")).encode(), {})


def _wait_for_an_answer(server: Server, peer: Peer, target: Target, body: Body) -> float:
    """Seconds from the start to the first 200; a server that says it is ready too early is asked again."""
    server.wait_for(Target(target.host, target.port, peer.ready, target.tls))
    give_up_at = time.monotonic() + FIRST_ANSWER_SECONDS
    while (answer := _ask(target, body)).status != 200:
        if time.monotonic() > give_up_at:
            raise NotStarted(f"{_said(answer)} to the first request; {server.last_words()}")
        time.sleep(ASK_AGAIN_SECONDS)
    return server.seconds()


def check_answers(
    peer: Peer, target: Target, bodies: Sequence[Body], queries: Sequence[Query], *, callers: int
) -> None:
    """Ask every query once; raises WrongAnswer unless every answer has the scores of Booster.predict."""
    with ThreadPoolExecutor(callers) as pool:
        for answer, query in zip(pool.map(lambda body: _ask(target, body), bodies), queries, strict=True):
            if answer.status != 200:
                raise WrongAnswer(f"it answers {_said(answer)}")
            check_scores(_read(peer, answer, query), query)


def check_scores(found: Sequence[float], query: Query) -> None:
    """Raises WrongAnswer unless `found` are the scores of `query`."""
    if len(found) != len(query.scores):
        raise WrongAnswer(f"{len(found)} scores for {len(query.scores)} candidates")
    differing = np.flatnonzero(np.array(found, dtype=np.float64) != query.scores)
    if differing.size:
        shown = ", ".join(f"{found[n]!r} for {query.scores[n]!r}" for n in differing[:SHOWN_SCORES].tolist())
        raise WrongAnswer(f"{differing.size} of {len(found)} scores are not those of Booster.predict: {shown}")


def _read(peer: Peer, answer: Answer, query: Query) -> list[float]:
    try:
        return list(map(float, peer.scores(answer.json(), query)))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WrongAnswer(f"no scores in {_said(answer)}") from error


def _ask(target: Target, body: Body) -> Answer:
    try:
        return target.request("POST", target.path, body.json, {"Content-Type": "application/json"})
    except Unreachable as error:
        raise NotStarted(str(error)) from error


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.body[:200].decode(errors='replace')}"


class _Load:
    """Callers of one server, who all send the same requests in turn."""

    def __init__(self, target: Target, bodies: Sequence[Body], file: Path, server: Server) -> None:
        self._target = target
        self._payloads = payloads(target, bodies, {})
        self._file = file
        self.server = server
        write_payloads(self._payloads, file)

    def closed(self, connections: int, seconds: float) -> tuple[ClosedLoop, float]:
        """Returns the run, and the CPU seconds of the server for one answer."""
        before = cpu_seconds_of(self.server.pid)
        run = drive(self._target, self._file, connections=connections, seconds=seconds)
        return run, (cpu_seconds_of(self.server.pid) - before) / max(1, run.answers)

    def open(self, rate: float, seconds: float) -> OpenLoop:
        schedule = Schedule((Phase(seconds, rate),))
        patience = Patience(give_up_seconds=PATIENCE_SECONDS)
        run = run_open_loop(
            self._target, self._payloads, schedule, patience=patience, max_connections=MAX_CONNECTIONS, watch=_nobody
        )
        found = figures(run, schedule, PATIENCE_SECONDS)
        if found.whole.accepted is None:
            raise NotMeasured(f"not one success at {rate:,.0f} requests/s: {found.sends}")
        return OpenLoop(
            rate=rate,
            p50=found.whole.accepted.p50,
            p99=found.whole.accepted.p99,
            failures=found.whole.requests - found.whole.accepted.count,
            generator_late=found.generator.late.p99,
            generator_share=found.generator.cpu_share,
        )


def _nobody(_elapsed: float, _record: Record) -> None:
    """Hears nothing: one bar shows the whole of a server's turn."""
