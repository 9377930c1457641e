from fake_store import Clock, event

from features import Bounds
from features.events import visitor_key
from features.stores.memory import MemoryStore


async def test_beyond_its_bound_the_store_forgets_whoever_did_nothing_for_the_longest_time(clock: Clock) -> None:
    store = MemoryStore(max_visitors=2, clock=clock)
    for visitor in ("anna", "ben", "anna", "carl"):
        await store.append([event(clock, visitor=visitor)])
        clock.seconds += 1
    values = await store.fetch([visitor_key(visitor) for visitor in ("anna", "ben", "carl")])
    assert [value is None for value in values] == [False, True, False]
    assert len(store) == 2


async def test_histories_past_their_time_to_live_make_room(clock: Clock) -> None:
    store = MemoryStore(Bounds(ttl_ms=60_000), clock=clock)
    await store.append([event(clock, visitor=f"visitor {number}") for number in range(100)])
    clock.seconds += 61
    await store.append([event(clock)])
    assert len(store) == 1
