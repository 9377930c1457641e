"""The budget and the breaker around a store, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from fake_store import Clock, FakeStore, event

from features import NOTHING, FetchReport, StoreUnavailable, Visitors
from features.events import visitor_key

pytestmark = pytest.mark.looptime

BUDGET, PROBE = 0.010, 0.25


class Watched:
    """Visitors over a fake store, on the time of the loop."""

    def __init__(self, clock: Clock) -> None:
        self.store = FakeStore()
        self.reports: list[FetchReport] = []
        self.loop = asyncio.get_running_loop()
        self.visitors = Visitors(
            self.store,
            budget_seconds=BUDGET,
            observer=self.reports.append,
            clock=self.loop.time,
            wall_clock=lambda: clock.seconds + self.loop.time(),
        )

    async def degraded(self, visitors: Sequence[str | None] = ("anna",)) -> bool:
        return any(visitor.degraded for visitor in await self.visitors.fetch(visitors))

    async def open_breaker(self) -> None:
        """Make the store fail until it is asked no more."""
        self.store.error = StoreUnavailable("gone")
        for _ in range(3):
            assert await self.degraded()
        assert self.visitors.stats().open


@pytest.fixture
async def watched(clock: Clock) -> AsyncIterator[Watched]:
    watched = Watched(clock)
    yield watched
    await watched.visitors.close()


async def test_a_batch_asks_once_for_each_visitor_and_gets_them_in_its_order(watched: Watched, clock: Clock) -> None:
    await watched.visitors.record([event(clock, visitor="anna"), event(clock, 5, visitor="ben")])
    found = await watched.visitors.fetch(["ben", None, "anna", "ben", "carl"])
    assert [one.history.at.tolist() for one in found] == [[clock.ms - 5], [], [clock.ms], [clock.ms - 5], []]
    assert not any(one.degraded for one in found)
    assert watched.store.fetches == [[visitor_key(visitor) for visitor in ("ben", "anna", "carl")]]


async def test_visitors_without_an_id_cost_no_round_trip(watched: Watched) -> None:
    assert not await watched.degraded([None, None])
    assert await watched.visitors.fetch([]) == []
    assert watched.store.fetches == []


async def test_the_moment_is_after_the_events_that_are_known(watched: Watched, clock: Clock) -> None:
    await watched.visitors.record([event(clock, ago_ms=-3)])
    anna, ben = await watched.visitors.fetch(["anna", "ben"])
    assert (anna.moment, ben.moment) == (clock.ms + 4, clock.ms)


async def test_a_ranking_waits_for_its_budget_and_no_longer(watched: Watched) -> None:
    watched.store.delay_seconds = 3
    started = watched.loop.time()
    (anna,) = await watched.visitors.fetch(["anna"])
    assert watched.loop.time() - started == pytest.approx(BUDGET)
    assert anna.degraded
    assert anna.history is NOTHING
    (report,) = watched.reports
    assert (report.outcome, report.visitors) == ("late", 1)
    assert report.seconds == pytest.approx(BUDGET)


async def test_an_answer_just_within_the_budget_counts(watched: Watched) -> None:
    watched.store.delay_seconds = 0.9 * BUDGET
    assert not await watched.degraded()


async def test_a_fetch_past_the_budget_is_left_to_end_by_itself(watched: Watched) -> None:
    watched.store.delay_seconds = 3
    await watched.degraded()
    assert watched.visitors.stats().unfinished == 1
    await asyncio.sleep(3)
    assert watched.visitors.stats().unfinished == 0
    assert watched.store.cancelled == 0


async def test_any_failure_of_a_store_is_a_degraded_ranking_and_reported(watched: Watched) -> None:
    watched.store.error = error = ZeroDivisionError("a defect of the store")
    assert await watched.degraded()
    assert watched.reports == [FetchReport("error", 1, 0.0, error=error)]


async def test_a_failure_after_the_budget_disturbs_nobody(watched: Watched) -> None:
    watched.store.delay_seconds, watched.store.error = 1, StoreUnavailable("too late anyhow")
    assert await watched.degraded()
    await asyncio.sleep(2)
    assert watched.visitors.stats().unfinished == 0


async def test_a_garbled_value_degrades_its_visitor_only_and_is_counted(watched: Watched, clock: Clock) -> None:
    await watched.visitors.record([event(clock, visitor="ben")])
    ben = await watched.store.fetch([visitor_key("ben")])
    watched.store.answer = [b"{}", *ben]
    found = await watched.visitors.fetch(["anna", "ben"])
    assert [one.degraded for one in found] == [True, False]
    assert watched.reports == [FetchReport("ok", 2, 0.0, garbled=1)]
    assert not watched.visitors.stats().open


async def test_after_three_failures_nobody_waits_any_more(watched: Watched) -> None:
    watched.store.delay_seconds = 3
    for _ in range(3):
        await watched.degraded()
    started = watched.loop.time()
    for _ in range(100):
        assert await watched.degraded()
    assert watched.loop.time() == started
    assert len(watched.store.fetches) == 3
    assert {report.outcome for report in watched.reports[3:]} == {"skipped"}


async def test_a_probe_costs_the_batch_that_it_goes_with_nothing(watched: Watched) -> None:
    await watched.open_breaker()
    watched.store.delay_seconds = 3
    await asyncio.sleep(PROBE)
    started = watched.loop.time()
    assert await watched.degraded()
    assert watched.loop.time() == started
    await asyncio.sleep(BUDGET)
    assert len(watched.store.fetches) == 4


@pytest.mark.parametrize("fault", ["slow", "failing"])
async def test_a_store_that_recovers_is_used_again_within_a_second(watched: Watched, fault: str) -> None:
    watched.store.delay_seconds = 0.3 if fault == "slow" else 0.0
    watched.store.error = StoreUnavailable("gone") if fault == "failing" else None
    for _ in range(500):  # 100 rankings a second for 5 s
        assert await watched.degraded()
        await asyncio.sleep(0.01)
    assert len(watched.store.fetches) < 30
    watched.store.delay_seconds, watched.store.error = 0.0, None
    recovered = watched.loop.time()
    while watched.loop.time() < recovered + 1:
        await watched.degraded()
        await asyncio.sleep(0.01)
    assert not await watched.degraded()


async def test_a_store_that_never_answers_is_owed_eight_fetches_at_most(watched: Watched) -> None:
    watched.store.delay_seconds = 1e6
    for _ in range(1_000):
        assert await watched.degraded()
        await asyncio.sleep(0.1)
    assert watched.visitors.stats().unfinished == 8


async def test_events_for_a_store_that_hangs_are_refused_after_a_second(watched: Watched, clock: Clock) -> None:
    watched.store.append_seconds = 1e6
    with pytest.raises(StoreUnavailable, match="the memory store has not answered for 1 s"):
        await watched.visitors.record([event(clock)])
    assert watched.loop.time() == pytest.approx(1)


async def test_whoever_is_forgotten_is_new_again(watched: Watched, clock: Clock) -> None:
    await watched.visitors.record([event(clock)])
    await watched.visitors.forget("anna")
    (anna,) = await watched.visitors.fetch(["anna"])
    assert anna.history is NOTHING
    assert not anna.degraded


async def test_closing_ends_what_nobody_waits_for(watched: Watched) -> None:
    watched.store.delay_seconds = 1e6
    await watched.degraded()
    await watched.visitors.close()
    assert watched.store.cancelled == 1
    assert watched.visitors.stats().unfinished == 0
