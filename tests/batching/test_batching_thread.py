"""The real thread and the real loop: ten thousand requests, some of which leave or are poisoned."""

import asyncio
import random
import threading
import time
from collections import Counter

import pytest
import uvloop

from batching import Batcher, BatchingError, Cost, Lane, Limits, Outcome, Priority, ScoringFailed

SECONDS = 60.0  # nothing here may take longer


def score(requests):
    """Each number alone, in floats whose last bit would tell of a neighbour."""
    for request in requests:
        if -1.0 in request:
            raise ValueError("poison")
    return [[(0.1 + number) / 3.0 for number in request] for request in requests]


def lane() -> Lane[list[float], list[float]]:
    return Lane(
        score,
        split=lambda request, start, stop: request[start:stop],
        join=lambda pieces: [number for piece in pieces for number in piece],
        cost=Cost(20e-6, 0.2e-6),
    )


class Crowd:
    """Callers with a mind of their own."""

    def __init__(self, batcher: Batcher[list[float], list[float]], seed: int) -> None:
        self.batcher = batcher
        self.draw = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.wrongly_failed = 0

    async def call(self) -> None:
        rows = self.draw.choice([1, 5, 50, 200, 2500])
        request = [self.draw.random() for _ in range(rows)]
        poisoned = self.draw.random() < 0.05
        if poisoned:
            request[-1] = -1.0
        asked = self.batcher.submit(
            self.draw.choice(["control", "treatment"]),
            request,
            rows=rows,
            due_at=time.perf_counter() + self.draw.choice([0.002, SECONDS]),
            priority=self.draw.choice(list(Priority)),
        )
        patience = self.draw.choice([0.0, 0.001, SECONDS, SECONDS, SECONDS])
        try:
            scored = await asyncio.wait_for(asked, patience)
        except TimeoutError:
            self.ends["cancelled"] += 1
        except BatchingError as error:
            self.ends[str(error.outcome)] += 1
            self.wrongly_failed += isinstance(error, ScoringFailed) and not poisoned
        else:
            self.ends["ok"] += 1
            assert not poisoned
            assert scored.result == score([request])[0]

    async def come(self, calls: int) -> None:
        callers = [asyncio.create_task(self.work(calls // 50)) for _ in range(50)]
        await asyncio.gather(*callers)

    async def work(self, calls: int) -> None:
        for number in range(calls):
            await self.call()
            if number % 20 == 0:
                name = self.draw.choice(["control", "treatment"])
                self.batcher.swap(name, lane())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_ten_thousand_requests_have_ten_thousand_outcomes_and_every_result_is_ones_own(new_loop):
    async def main() -> None:
        batcher = Batcher(
            {"control": lane(), "treatment": lane()}, limits=Limits(max_batch_rows=2048, max_loop_seconds=0.0005)
        )
        async with batcher:
            crowd = Crowd(batcher, seed=7)
            await asyncio.wait_for(crowd.come(10_000), SECONDS)
        lanes = batcher.stats().lanes.values()
        assert sum(stats.offered for stats in lanes) == sum(crowd.ends.values()) - never_began(batcher, crowd)
        for outcome in set(Outcome) - {Outcome.CANCELLED}:
            assert sum(stats.outcomes[outcome] for stats in lanes) == crowd.ends[outcome]
        assert all(stats.pending == stats.waiting_rows == stats.in_flight_rows == 0 for stats in lanes)
        assert crowd.wrongly_failed == 0
        assert crowd.ends["ok"]
        assert crowd.ends["error"]

    def never_began(batcher: Batcher, crowd: Crowd) -> int:
        """Callers whose patience was over before their request was even submitted."""
        counted = sum(stats.outcomes[Outcome.CANCELLED] for stats in batcher.stats().lanes.values())
        return crowd.ends["cancelled"] - counted

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_the_loop_goes_on_while_a_batch_is_scored_and_scores_come_from_one_other_thread():
    async def main() -> None:
        began, may_end = threading.Event(), threading.Event()
        threads = set()

        def slow(requests):
            threads.add(threading.current_thread().name)
            began.set()
            assert may_end.wait(SECONDS)
            return requests

        async with Batcher({"control": Lane(slow, lambda *_: None, list, Cost(0.01, 0.0001))}) as batcher:
            calls = [
                asyncio.create_task(batcher.submit("control", number, rows=1, due_at=time.perf_counter() + SECONDS))
                for number in range(3)
            ]
            await asyncio.to_thread(began.wait, SECONDS)
            assert batcher.stats().lanes["control"].in_flight_rows == 3
            may_end.set()
            assert [scored.result for scored in await asyncio.gather(*calls)] == [0, 1, 2]
        assert threads == {"scoring"}

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


def test_the_thread_is_gone_after_the_drain():
    async def main() -> None:
        async with Batcher({"control": lane()}) as batcher:
            await batcher.submit("control", [1.0], rows=1, due_at=time.perf_counter() + SECONDS)
            assert "scoring" in {thread.name for thread in threading.enumerate()}

    before = set(threading.enumerate())
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())
    assert not {thread.name for thread in set(threading.enumerate()) - before} & {"scoring"}


def test_a_loop_that_ends_without_a_drain_ends_the_thread_at_its_next_result():
    may_end = threading.Event()

    def slow(requests):
        may_end.wait(SECONDS)
        return requests

    async def main() -> None:
        batcher = Batcher({"control": Lane(slow, lambda *_: None, list, Cost(0.01, 0.0001))})
        await batcher.start()
        call = asyncio.create_task(batcher.submit("control", 1, rows=1, due_at=time.perf_counter() + SECONDS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()

    before = set(threading.enumerate())
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())
    (thread,) = (each for each in set(threading.enumerate()) - before if each.name == "scoring")
    may_end.set()
    thread.join(SECONDS)
    assert not thread.is_alive()
