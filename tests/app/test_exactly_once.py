"""Nothing lost, nothing doubled, nothing crossed: a real server, callers that leave, requests that fail, and SIGTERM.

`EXACTLY_ONCE_REQUESTS` says how many requests are sent before the end (5,000 unless told).
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, cast

import httptools
import msgspec
import numpy as np
import pytest
import pytest_asyncio
from app_models import FEATURES, booster
from numpy.typing import NDArray
from poisoned_server import POISON
from processes import HOUSE, START_SECONDS
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("exactly_once")]

REQUESTS = int(os.environ.get("EXACTLY_ONCE_REQUESTS", "5000"))
HELD = 16  # in flight when SIGTERM arrives: all of their bodies but the last byte
STORM = 2_000  # at most: callers go on until the port is closed
STORM_BEFORE_SIGTERM = 100
CALLERS = 16
SEED = 12
OVERSIZE, OVERSIZE_SHARE = 600, 0.005  # more rows than a batch takes
POISONED_EVERY = 1_000
OUTCOME_OF_STATUS = {200: "ok", 500: "error", 503: "shed"}
LONGEST_MOMENT_SECONDS = 0.01
PATIENCE_SECONDS = 30  # a bound for a busy machine: what is not answered then is lost
CUT = 20  # bytes of a head that is no whole head yet
VARIANTS = ("control", "treatment")
WIDTHS = {"control": len(FEATURES), "treatment": len(FEATURES) - 1}

Floats = NDArray[np.float64]


class Leaves(IntEnum):
    """When a caller hangs up."""

    NEVER = 0
    IN_THE_HEADERS = 1
    BEFORE_THE_BODY = 2
    AFTER_THE_BODY = 3
    A_MOMENT_LATER = 4


LEAVES_SHARES = (0.7, 0.05, 0.05, 0.1, 0.1)


@dataclass(frozen=True)
class Traffic:
    """Requests by number; request n has the rows `start[n]:start[n + 1]`, encoded and in the order of `FEATURES`."""

    rows: Floats
    start: NDArray[np.int64]
    treatment: NDArray[np.bool_]
    leaves: NDArray[np.int8]
    moments: Floats
    poisoned: frozenset[int]

    def variant(self, number: int) -> str:
        return VARIANTS[int(self.treatment[number])]

    def request(self, number: int) -> tuple[bytes, bytes]:
        """Head and body."""
        first, last = self.start[number : number + 2].tolist()
        rows = self.rows[first:last].tolist()
        candidates = [
            {"id": f"{number}-{position}", "features": _values(row, "activity")} for position, row in enumerate(rows)
        ]
        body = msgspec.json.encode({"context": _values(rows[0], "context"), "candidates": candidates})
        head = (
            f"POST /v1/rank HTTP/1.1\r\nHost: frontrow\r\nContent-Type: application/json\r\nX-Request-Id: {number}\r\n"
            f"X-Variant: {self.variant(number)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode(), body

    def rankings(self, bundles: Path) -> Iterator[list[tuple[str, float]]]:
        """The ids and scores that each request alone should get, by LightGBM, best first."""
        scores = np.empty(len(self.rows))
        of_treatment = np.repeat(self.treatment, np.diff(self.start))
        for variant, mine in zip(VARIANTS, (~of_treatment, of_treatment), strict=True):
            scores[mine] = booster(bundles / variant).predict(self.rows[mine, : WIDTHS[variant]])
        for number, (first, last) in enumerate(zip(self.start[:-1].tolist(), self.start[1:].tolist(), strict=True)):
            own = scores[first:last]
            yield [(f"{number}-{place}", own[place].item()) for place in np.argsort(-own, kind="stable").tolist()]


def draw_traffic(requests: int) -> Traffic:
    random = np.random.default_rng(SEED)
    sizes = random.integers(2, 13, requests)
    sizes[random.random(requests) < OVERSIZE_SHARE] = OVERSIZE
    start = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.empty((start[-1], len(FEATURES)))
    for column, feature in enumerate(FEATURES):
        if feature.role == "context":
            rows[:, column] = np.repeat(_draw(random, feature.type, requests), sizes)
        else:
            rows[:, column] = _draw(random, feature.type, len(rows))
    poisoned = random.choice(requests, requests // POISONED_EVERY, replace=False)
    price = [feature.name for feature in FEATURES].index("price")
    rows[start[poisoned] + random.integers(0, sizes[poisoned]), price] = POISON
    leaves = random.choice(len(Leaves), requests, p=LEAVES_SHARES).astype(np.int8)
    moments = random.uniform(0, LONGEST_MOMENT_SECONDS, requests)
    return Traffic(rows, start, random.random(requests) < 0.5, leaves, moments, frozenset(poisoned.tolist()))


def _draw(random: np.random.Generator, kind: str, count: int) -> Floats:
    if kind == "number":
        return random.uniform(1, 120, count).round(2)
    return random.integers(0, {"category": 3, "boolean": 2, "integer": 90}[kind], count).astype(float)


def _values(row: list[float], role: str) -> dict[str, Any]:
    return {
        feature.name: feature.decode(value)
        for feature, value in zip(FEATURES, row, strict=True)
        if feature.role == role
    }


class Answer(NamedTuple):
    """What arrived on a connection on which `asked` had been sent last."""

    asked: int
    request_id: str
    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """A keep-alive connection that notes every answer that arrives, whether anybody waits for it or not."""

    def __init__(self, notes: list[Answer]) -> None:
        self._notes = notes
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._asked = -1
        self._over = asyncio.get_running_loop().create_future()

    def send(self, number: int, payload: bytes) -> None:
        """Begin to ask; `go_on` sends what is left."""
        self._asked = number
        self._over = asyncio.get_running_loop().create_future()
        self.go_on(payload)

    def go_on(self, payload: bytes) -> None:
        if self._transport is None:
            self._end(answered=False)
        else:
            self._transport.write(payload)

    async def answered(self, patience_seconds: float) -> bool:
        """Whether an answer has come, at the latest once patience or the connection has ended."""
        await asyncio.wait([self._over], timeout=patience_seconds)
        return self._over.done() and self._over.result()

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._end(answered=False)

    def on_message_begin(self) -> None:
        self._request_id, self._body = "", b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._notes.append(Answer(self._asked, self._request_id, self._parser.get_status_code(), self._body))
        if not self._parser.should_keep_alive():
            self.close()
        self._end(answered=True)

    def _end(self, *, answered: bool) -> None:
        if not self._over.done():
            self._over.set_result(answered)


class Callers:
    """All callers of a run, and what they got."""

    def __init__(self, port: int, traffic: Traffic) -> None:
        self.answers: list[Answer] = []
        self.left: set[int] = set()
        self.unanswered: set[int] = set()
        self._port = port
        self._traffic = traffic

    async def connect(self, notes: list[Answer] | None = None) -> Connection:
        loop = asyncio.get_running_loop()
        notes = self.answers if notes is None else notes
        return (await loop.create_connection(lambda: Connection(notes), "127.0.0.1", self._port))[1]

    async def ask_all(self, numbers: Iterator[int]) -> None:
        """Ask until the numbers are used up or the port is closed."""
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._ask_in_turn(numbers))

    async def _ask_in_turn(self, numbers: Iterator[int]) -> None:
        connection: Connection | None = None
        for number in numbers:
            if connection is None or not connection.usable:
                try:
                    connection = await self.connect()
                except ConnectionError:
                    self.unanswered.add(number)
                    return
            await self._ask(number, connection)
        if connection is not None:
            connection.close()

    async def _ask(self, number: int, connection: Connection) -> None:
        head, body = self._traffic.request(number)
        leaves = self._traffic.leaves[number]
        moment = self._traffic.moments[number].item() if leaves == Leaves.A_MOMENT_LATER else 0.0
        if leaves == Leaves.IN_THE_HEADERS:
            connection.send(number, head[:CUT])
        elif leaves == Leaves.BEFORE_THE_BODY:
            connection.send(number, head)
        else:
            connection.send(number, head + body)
        if leaves == Leaves.NEVER:
            await self.receive(number, connection)
        elif not await connection.answered(moment):
            self.left.add(number)
            connection.close()

    async def hold(self, number: int) -> tuple[Connection, bytes]:
        """Send all of a request but its last byte."""
        connection = await self.connect()
        head, body = self._traffic.request(number)
        connection.send(number, head + body[:-1])
        return connection, body[-1:]

    async def receive(self, number: int, connection: Connection) -> None:
        if not await connection.answered(PATIENCE_SECONDS):
            self.unanswered.add(number)
            connection.close()

    async def outcomes(self) -> Counter[str]:
        """The server's own counts, and `offered`, with no request of ours in flight but the held ones."""
        notes: list[Answer] = []
        connection = await self.connect(notes)
        connection.send(-1, b"GET /metrics HTTP/1.1\r\nHost: frontrow\r\nConnection: close\r\n\r\n")
        assert await connection.answered(PATIENCE_SECONDS)
        connection.close()
        counts: Counter[str] = Counter()
        for family in text_string_to_metric_families(notes[0].body.decode()):
            for sample in family.samples:
                if sample.name == "frontrow_requests_offered_total":
                    counts["offered"] += int(sample.value)
                if sample.name == "frontrow_requests_total":
                    counts[sample.labels["outcome"]] += int(sample.value)
        return counts

    async def outcomes_once(self, offered: int, *, under_way: int) -> Counter[str]:
        """The counts once so many requests were offered and all but those `under_way` have ended; or the last ones."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            counts = await self.outcomes()
            ended = counts.total() - counts["offered"]
            if (counts["offered"], ended) == (offered, offered - under_way) or time.monotonic() > give_up_at:
                return counts
            await asyncio.sleep(0.02)


@asynccontextmanager
async def poisoned_server(bundles: Path, log: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A server process with poisoned engines that is ready, and its port. It logs to `log`."""
    settings = {
        "control_model": bundles / "control",
        "treatment_model": bundles / "treatment",
        "allow_forced_variant": True,
        "port": 0,
        "code_version": "test",
        "request_timeout_ms": 10_000,  # a machine that stalls may still refuse some: see `Run.refused`
        "body_timeout_seconds": 2 * PATIENCE_SECONDS,
        "lame_duck_seconds": 0,
        "drain_seconds": PATIENCE_SECONDS,
    }
    environment = {f"FRONTROW_{name.upper()}": str(value) for name, value in settings.items()}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRONTROW_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("poisoned_server.py")),
            cwd=bundles,
            env={**clean, "PYTHONPATH": str(HOUSE), **environment},
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            port = await _announced_port(process)
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _announced_port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        said += line
        if b"Frontrow is ready: " in line:
            return int(line.rsplit(b":", 1)[1])
    raise AssertionError(f"it ended before it was ready:\n{said.decode()}")


@dataclass(frozen=True)
class Run:
    """What callers and server say of the same requests: first the calm ones, then those that were held, then a storm.

    `outcomes` is the server's log, request by request; `calm_counts` and `held_counts` are its metrics at the end of
    the calm and while requests were held.
    """

    traffic: Traffic
    answers: list[Answer]
    left: set[int]
    unanswered: set[int]
    outcomes: dict[int, list[str]]
    calm_counts: Counter[str]
    held_counts: Counter[str]
    exit_code: int
    seconds: float

    @property
    def answered(self) -> set[int]:
        return {answer.asked for answer in self.answers}

    @property
    def refused(self) -> set[int]:
        """Those told that the service is overloaded: the only answer that need not be in the log."""
        return {answer.asked for answer in self.answers if answer.status == 503}

    @property
    def lost(self) -> set[int]:
        """Those unanswered that were sent before SIGTERM, or that the server took on."""
        return {number for number in self.unanswered if number < STORM_NUMBERS.start or number in self.outcomes}

    @property
    def doubled(self) -> list[int]:
        return [number for number, count in Counter(answer.asked for answer in self.answers).items() if count > 1]

    @property
    def crossed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.request_id != str(answer.asked)]

    def __str__(self) -> str:
        requests = len(self.answered | self.left | self.unanswered)
        return (
            f"{requests} requests, {len(self.answered)} answered, {len(self.left)} hung up, "
            f"{sum(answer.status == 500 for answer in self.answers)} poisoned, {len(self.refused)} refused, "
            f"{len(self.unanswered - self.lost)} turned away, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.crossed)} crossed, {self.seconds:.1f} s"
        )


CALM_NUMBERS = range(REQUESTS)
HELD_NUMBERS = range(REQUESTS, REQUESTS + HELD)
STORM_NUMBERS = range(REQUESTS + HELD, REQUESTS + HELD + STORM)


def arriving(traffic: Traffic, numbers: range) -> set[int]:
    """Those whose headers are sent to their end."""
    return {number for number in numbers if traffic.leaves[number] != Leaves.IN_THE_HEADERS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    traffic = draw_traffic(STORM_NUMBERS.stop)
    log = tmp_path_factory.mktemp("exactly_once") / "log.jsonl"
    async with poisoned_server(bundles, log) as (process, port):
        callers = Callers(port, traffic)
        started = time.perf_counter()
        await callers.ask_all(iter(CALM_NUMBERS))
        offered = len(arriving(traffic, CALM_NUMBERS))
        calm_counts = await callers.outcomes_once(offered, under_way=0)

        held = {number: await callers.hold(number) for number in HELD_NUMBERS}
        held_counts = await callers.outcomes_once(offered + HELD, under_way=HELD)
        await callers.ask_all(_storm(process))
        for number, (connection, rest) in held.items():
            connection.go_on(rest)
            await callers.receive(number, connection)
        async with asyncio.timeout(PATIENCE_SECONDS):
            exit_code = await process.wait()
        seconds = time.perf_counter() - started
    return Run(
        traffic,
        callers.answers,
        callers.left,
        callers.unanswered,
        _outcomes(log),
        calm_counts,
        held_counts,
        exit_code,
        seconds,
    )


def _storm(process: asyncio.subprocess.Process) -> Iterator[int]:
    """Numbers to ask for, and SIGTERM after the first of them."""
    for number in STORM_NUMBERS:
        if number == STORM_NUMBERS.start + STORM_BEFORE_SIGTERM:
            process.send_signal(signal.SIGTERM)
        yield number


def _outcomes(log: Path) -> dict[int, list[str]]:
    outcomes: dict[int, list[str]] = {}
    for line in log.read_bytes().splitlines():
        event = msgspec.json.decode(line)
        if event["event"] == "rank":
            outcomes.setdefault(int(event["request_id"]), []).append(event["outcome"])
    return outcomes


def test_whoever_stays_gets_exactly_one_answer_and_it_is_their_own(run: Run) -> None:
    print(run)
    assert run.lost == set()
    assert run.doubled == []
    assert run.crossed == []
    assert run.answered | run.left >= {*CALM_NUMBERS, *HELD_NUMBERS}
    assert run.left  # else nobody had left, and the rest would prove little


def test_every_ranking_is_that_of_its_request_alone_to_the_last_bit(run: Run, bundles: Path) -> None:
    alone = list(run.traffic.rankings(bundles))
    ranked = 0
    for answer in run.answers:
        if answer.status == 200:
            body = msgspec.json.decode(answer.body)
            assert body["request_id"] == answer.request_id
            assert body["variant"] == run.traffic.variant(answer.asked)
            assert [(one["id"], one["score"].hex()) for one in body["ranking"]] == [
                (activity, score.hex()) for activity, score in alone[answer.asked]
            ]
            ranked += 1
    assert ranked > REQUESTS / 2


def test_poisoned_requests_fail_and_no_others(run: Run) -> None:
    failed = {answer.asked for answer in run.answers if answer.status == 500}
    assert failed == run.traffic.poisoned & run.answered - run.refused
    assert failed
    assert {answer.status for answer in run.answers} <= OUTCOME_OF_STATUS.keys()


def test_the_log_has_exactly_one_outcome_for_each_request_whose_headers_arrived(run: Run) -> None:
    assert [number for number, outcomes in run.outcomes.items() if len(outcomes) > 1] == []
    arrived = arriving(run.traffic, CALM_NUMBERS) | set(HELD_NUMBERS) | run.answered
    leaving_in_the_storm = run.left & set(STORM_NUMBERS)  # their headers may have come after the port was closed
    assert run.outcomes.keys() <= arrived | arriving(run.traffic, STORM_NUMBERS) & leaving_in_the_storm
    assert arrived - run.outcomes.keys() <= run.refused | run.left


def test_the_log_says_what_the_callers_say(run: Run) -> None:
    for answer in run.answers:
        assert run.outcomes.get(answer.asked, ["shed"]) == [OUTCOME_OF_STATUS[answer.status]]
    for number in run.left & run.outcomes.keys():
        scored = "error" if number in run.traffic.poisoned else "ok"
        assert {*run.outcomes[number]} <= {"cancelled", "shed", scored}
        assert run.traffic.leaves[number] != Leaves.BEFORE_THE_BODY or scored not in run.outcomes[number]


def test_the_metrics_count_each_request_once(run: Run) -> None:
    calm = set(CALM_NUMBERS)
    answered = Counter(OUTCOME_OF_STATUS[answer.status] for answer in run.answers if answer.asked in calm)
    left = Counter(run.outcomes.get(number, ["shed"])[0] for number in run.left & arriving(run.traffic, CALM_NUMBERS))
    offered = len(arriving(run.traffic, CALM_NUMBERS))
    assert run.calm_counts == answered + left + Counter(offered=offered)
    assert run.calm_counts.total() - run.calm_counts["offered"] == offered


def test_what_was_accepted_before_sigterm_is_answered_and_the_exit_code_is_zero(run: Run) -> None:
    ended = run.held_counts.total() - run.held_counts["offered"]
    assert run.held_counts["offered"] - ended == HELD  # all of them were in flight
    assert set(HELD_NUMBERS) <= run.answered - run.refused
    assert run.unanswered.isdisjoint(run.outcomes)
    assert run.exit_code == 0
