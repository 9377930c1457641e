"""What holds for every store."""

import asyncio
from random import Random

from fake_store import Clock, event, line, readable

from features import KINDS, Event, HistoryStore
from features.events import oldest_record, record, visitor_key
from features.history import merge

ANNA, BEN, CARL = map(visitor_key, ("anna", "ben", "carl"))
DAY_MS = 24 * 3_600_000


async def kept(store: HistoryStore, clock: Clock, visitor: str = "anna") -> list[tuple[int, str, int]]:
    (value,) = await store.fetch([visitor_key(visitor)])
    return readable(value, visitor, clock)


async def test_what_was_appended_is_fetched(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, 20, "A1"), event(clock, 10, "A2", kind="booking")])
    assert await kept(store, clock) == [line(20, "A1"), line(10, "A2", "booking")]


async def test_a_fetch_answers_in_the_order_of_the_visitors_with_none_for_strangers(
    store: HistoryStore, clock: Clock
) -> None:
    await store.append([event(clock, 1, visitor="anna"), event(clock, 2, visitor="ben")])
    ben, carl, anna = await store.fetch([BEN, CARL, ANNA])
    assert readable(ben, "ben", clock) == [line(2)]
    assert carl is None
    assert readable(anna, "anna", clock) == [line(1)]


async def test_nobody_is_fetched_for_nobody(store: HistoryStore) -> None:
    assert await store.fetch([]) == []


async def test_an_event_that_comes_again_is_kept_once(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, 10), event(clock, 10)])
    await store.append([event(clock, 20), event(clock, 10)])
    assert await kept(store, clock) == [line(20), line(10)]


async def test_a_late_event_takes_its_place_in_time(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, 30), event(clock, 10)])
    await store.append([event(clock, 20)])
    assert await kept(store, clock) == [line(30), line(20), line(10)]


async def test_the_last_fifty_events_are_kept(store: HistoryStore, clock: Clock) -> None:
    for ago in range(60, 0, -1):
        await store.append([event(clock, ago)])
    await store.append([event(clock, 1_000)])
    assert await kept(store, clock) == [line(ago) for ago in range(50, 0, -1)]


async def test_events_past_their_time_to_live_go_with_the_next_one(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, DAY_MS - 5_000), event(clock, 0)])
    clock.seconds += 10
    await store.append([event(clock, 0)])
    assert await kept(store, clock) == [line(10_000), line(0)]


async def test_an_event_that_is_too_old_already_is_not_kept(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, DAY_MS + 1)])
    assert await store.fetch([ANNA]) == [None]


async def test_a_visitor_who_is_deleted_is_forgotten_and_nobody_else(store: HistoryStore, clock: Clock) -> None:
    await store.append([event(clock, visitor="anna"), event(clock, visitor="ben")])
    await store.delete(ANNA)
    await store.delete(CARL)
    assert await kept(store, clock) == []
    assert await kept(store, clock, "ben") == [line(0)]


async def test_a_visitor_id_may_be_any_text(store: HistoryStore, clock: Clock) -> None:
    for visitor in ("", "{a}", "x" * 5_000, "\x00 \n", "Зоя"):
        await store.append([event(clock, visitor=visitor)])
        assert await kept(store, clock, visitor) == [line(0)]


async def test_whatever_the_order_of_arrival_the_bytes_are_those_of_merge(store: HistoryStore, clock: Clock) -> None:
    random = Random(4)
    expected = None
    for _ in range(150):
        new = [
            Event(
                "anna", random.choice("ABC"), random.choice(KINDS), clock.ms - random.choice((0, 1, 255, 256, 90_000))
            )
            for _ in range(random.randint(1, 4))
        ]
        await store.append(new)
        oldest = oldest_record(clock.ms - DAY_MS)
        expected = merge(expected, map(record, new), ANNA, limit=50, oldest=oldest)
        assert await store.fetch([ANNA]) == [expected]
        clock.seconds += random.choice((0, 0.1, 7))


async def test_appends_at_the_same_time_lose_nothing(store: HistoryStore, clock: Clock) -> None:
    await asyncio.gather(*(store.append([event(clock, ago), event(clock, ago, visitor="ben")]) for ago in range(40)))
    everything = [line(ago) for ago in range(39, -1, -1)]
    assert await kept(store, clock) == await kept(store, clock, "ben") == everything


async def test_every_event_is_seen_by_the_fetch_after_it(store: HistoryStore, clock: Clock) -> None:
    async def shop(visitor: str) -> int:
        seen = 0
        for ago in range(100, 0, -1):
            await store.append([event(clock, ago, visitor=visitor)])
            seen += (await kept(store, clock, visitor))[-1] == line(ago)
        return seen

    assert await asyncio.gather(*(shop(f"visitor {number}") for number in range(10))) == [100] * 10


async def test_a_store_that_works_answers_a_ping(store: HistoryStore) -> None:
    await store.ping()
