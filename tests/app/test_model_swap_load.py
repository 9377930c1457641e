"""Many new models under a steady load: nobody is refused, and every answer is of the one version that it names."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from changing_models import CANDIDATES, describe, lead, scores_of
from processes import serving

from benchmarks.bodies import Body, payloads
from benchmarks.connection import IDLE, Connection
from benchmarks.pool import ConnectionPool
from benchmarks.target import RANK_PATH, Target

Swap = Callable[[str], None]

SWAPS = int(os.environ.get("MODEL_SWAPS", "10"))
VERSIONS = 4  # more than are kept: each swap loads a model
CALLERS = 8
UNDER_WAY = 256  # requests: more only wait, and would be dropped for want of connections
LOAD = 0.8
SOME_ANSWERS = 50
GIVE_UP_SECONDS = 30.0


class Answer(msgspec.Struct):
    model: dict[str, str]
    ranking: list[dict[str, str | float]]


class Listening(Connection):
    """A connection that keeps what it is answered."""

    def __init__(self, pool: "Audience") -> None:
        super().__init__(pool)
        self._audience = pool
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self.request != IDLE:
            self._audience.heard(body)
        super().on_message_complete()


class Audience(ConnectionPool):
    """Callers who compare each answer with what LightGBM itself says of the version that it names."""

    def __init__(self, target: Target, sent: list[bytes], expected: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__(target, sent, self._saw, limit=4 * UNDER_WAY, give_up_seconds=GIVE_UP_SECONDS)
        self._expected = expected
        self._decode = msgspec.json.Decoder(Answer).decode
        self.statuses: dict[int, int] = {}
        self.wrong: list[bytes] = []
        self.of: dict[str, int] = {}
        self._heard = asyncio.Event()
        self._never_pauses = False

    def heard(self, body: bytes) -> None:
        answer = self._decode(body)
        version = answer.model["version"]
        self.of[version] = self.of.get(version, 0) + 1
        self._heard.set()
        if {one["id"]: one["score"] for one in answer.ranking} != self._expected[version]:
            self.wrong.append(body)

    async def heard_of(self, version: str, answers: int) -> None:
        """Wait for so many answers of a version."""
        while self.of.get(version, 0) < answers:
            self._heard.clear()
            await self._heard.wait()

    def _saw(self, request: int, status: int, sent_at: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self._never_pauses:
            self._loop.call_soon(self.submit, request + CALLERS)

    async def capacity(self, seconds: float) -> float:
        """Answers a second when each of so few callers always has a request under way."""
        self._never_pauses = True
        for request in range(CALLERS):
            self.submit(request)
        await asyncio.sleep(seconds)
        self._never_pauses = False
        await self.drain()
        return self.statuses[200] / seconds

    async def _connect(self) -> None:
        await self._loop.create_connection(lambda: Listening(self), self._target.host, self._target.port)


@pytest.fixture(scope="module")
def versions(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    made = {}
    for number in range(1, VERSIONS + 1):
        made[str(number)] = Path(shutil.copytree(bundles / ("treatment", "control")[number % 2], folder / str(number)))
        describe(made[str(number)], version=str(number))
    return made


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * SWAPS)
def test_nobody_notices_new_models_at_four_fifths_of_the_capacity(
    bundles: Path, versions: dict[str, Path], tmp_path: Path
) -> None:
    expected = {name: scores_of(folder) for name, folder in versions.items()}
    link = tmp_path / "control"
    lead(link, versions["1"])
    quiet = {"access_log_share": 0, "control_model": link, "treatment_model": ""}
    with serving(bundles, **quiet) as process:
        parts = urlsplit(process.url)
        assert parts.hostname is not None
        assert parts.port is not None
        target = Target(parts.hostname, parts.port, RANK_PATH, tls=False)
        sent = payloads(target, [Body(encode_body(), {})], {})

        def swap(name: str) -> None:
            lead(link, versions[name])
            os.kill(process.pid, signal.SIGHUP)

        async def callers() -> Audience:
            audience = Audience(target, sent, expected)
            await swap_under_load(audience, swap)
            return audience

        audience = asyncio.run(callers())
    assert audience.wrong == []
    assert audience.statuses == {200: audience.statuses[200]}
    assert set(audience.of) == set(versions)
    assert sum(audience.of.values()) == audience.statuses[200] >= SWAPS * SOME_ANSWERS


def encode_body() -> bytes:
    return msgspec.json.encode({"context": {"device": "mobile", "days_to_trip": 12}, "candidates": CANDIDATES})


async def swap_under_load(audience: Audience, swap: Swap) -> None:
    await audience.open(CALLERS)
    sending = asyncio.create_task(send(audience, LOAD * await audience.capacity(2)))
    for number in range(SWAPS):
        name = str(1 + (number + 1) % VERSIONS)
        swap(name)
        enough = audience.of.get(name, 0) + SOME_ANSWERS
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await audience.heard_of(name, enough)
    sending.cancel()
    await audience.drain()
    await audience.close()


async def send(audience: Audience, rate: float) -> None:
    """A request is sent when it is due, whatever became of those before it, up to `UNDER_WAY`."""
    started, ended, number = time.perf_counter(), sum(audience.statuses.values()), 0
    while True:
        due = int((time.perf_counter() - started) * rate)
        free = UNDER_WAY - number + sum(audience.statuses.values()) - ended
        for request in range(number, min(due, number + free)):
            audience.submit(request)
            number += 1
        audience.give_up_on_the_slow()
        await asyncio.sleep(0.001)
