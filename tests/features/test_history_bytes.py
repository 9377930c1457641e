import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import KINDS, NOTHING, Bounds, Event, EventError, History
from features.events import MAX_AT, RECORD_BYTES, Kind, activity_key, oldest_record, record, visitor_key
from features.history import HEAD_BYTES, Garbled, merge, newest_at, unpack

ANNA, BEN = visitor_key("anna"), visitor_key("ben")

events = st.builds(
    Event,
    st.just("anna"),
    st.sampled_from("ABC"),
    st.sampled_from(KINDS),
    st.integers(0, 30) | st.integers(0, MAX_AT - 1),
)


def packed(*given: Event, limit: int = 50, known: bytes | None = None, oldest: int = 0) -> bytes:
    value = merge(known, map(record, given), ANNA, limit=limit, oldest=oldest_record(oldest))
    assert value is not None
    return value


def viewed(at: int, activity: str = "A1", kind: Kind = "view") -> Event:
    return Event("anna", activity, kind, at)


def lines(history: History) -> list[tuple[int, int, int]]:
    return list(zip(history.at.tolist(), history.kinds.tolist(), history.activities.tolist(), strict=True))


def line(event: Event) -> tuple[int, int, int]:
    return event.at, KINDS.index(event.kind), activity_key(event.activity)


@given(st.lists(events), st.lists(events), st.integers(1, 8), st.integers(0, 40))
def test_a_history_is_the_last_events_each_once_and_in_order(
    known: list[Event], new: list[Event], limit: int, oldest: int
) -> None:
    value = merge(None, map(record, known), ANNA, limit=limit, oldest=bytes(RECORD_BYTES))
    value = merge(value, map(record, new), ANNA, limit=limit, oldest=oldest_record(oldest))
    remembered = sorted({line(event) for event in known})[-limit:]
    expected = [one for one in sorted({*remembered, *map(line, new)}) if one[0] >= oldest][-limit:]
    assert (lines(unpack(value, ANNA)) if value else []) == expected


@given(events, events)
def test_records_are_in_the_order_of_time_then_kind_then_activity(one: Event, other: Event) -> None:
    assert (record(one) < record(other)) == (line(one) < line(other))
    assert len(record(one)) == RECORD_BYTES


def test_an_event_costs_16_bytes_and_a_visitor_16_more() -> None:
    assert len(packed(*(viewed(at) for at in range(50)))) == HEAD_BYTES + 50 * RECORD_BYTES == 816


def test_an_event_that_arrives_late_takes_its_place_in_time() -> None:
    value = packed(viewed(10), viewed(30))
    assert unpack(packed(viewed(20), known=value), ANNA).at.tolist() == [10, 20, 30]


def test_the_time_of_the_last_event_is_read_without_unpacking() -> None:
    assert newest_at(packed(viewed(10), viewed(1_790_000_000_123))) == 1_790_000_000_123


def test_nothing_remains_of_a_history_whose_events_are_all_too_old() -> None:
    assert merge(packed(viewed(10)), [], ANNA, limit=50, oldest=oldest_record(11)) is None


@pytest.mark.parametrize("at", [-1, MAX_AT])
def test_a_time_that_a_record_cannot_hold_is_refused_with_the_limits(at: int) -> None:
    with pytest.raises(EventError, match=f"time {at} ms is outside of 0 to {MAX_AT - 1}"):
        record(viewed(at))


def test_a_kind_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(EventError, match="'purchase' is none of view, click, booking"):
        record(Event("anna", "A1", "purchase", 1))  # type: ignore[arg-type]


GOOD = packed(viewed(10), viewed(20))
GARBLED = {
    "empty": b"",
    "cut": GOOD[:-1],
    "cut by a whole record": GOOD[:-RECORD_BYTES],
    "longer": GOOD + GOOD[-RECORD_BYTES:],
    "of another version": GOOD[:3] + b"\x02" + GOOD[4:],
    "foreign": b"\x80\x04\x95" + GOOD[3:],
    "out of order": GOOD[:HEAD_BYTES] + GOOD[-RECORD_BYTES:] + GOOD[HEAD_BYTES:-RECORD_BYTES],
    "of an unknown kind": GOOD[: HEAD_BYTES + 7] + b"\x03" + GOOD[HEAD_BYTES + 8 :],
    "no bytes": 7,
}


@pytest.mark.parametrize("value", GARBLED.values(), ids=GARBLED)
def test_a_value_that_is_no_history_is_recognized(value: bytes) -> None:
    with pytest.raises(Garbled):
        unpack(value, ANNA)


def test_the_history_of_somebody_else_is_recognized() -> None:
    with pytest.raises(Garbled):
        unpack(GOOD, BEN)


@pytest.mark.parametrize("name", ["empty", "cut", "foreign", "of another version"])
def test_a_garbled_value_is_replaced_by_the_next_event(name: str) -> None:
    value = GARBLED[name]
    assert isinstance(value, bytes)
    assert unpack(packed(viewed(30), known=value), ANNA).at.tolist() == [30]


def test_only_events_strictly_before_the_moment_count() -> None:
    history = unpack(packed(viewed(10), viewed(20), viewed(30)), ANNA)
    assert history.before(20, Bounds()).at.tolist() == [10]
    assert history.before(21, Bounds()).at.tolist() == [10, 20]


def test_of_the_events_before_the_moment_the_last_within_the_time_to_live_count() -> None:
    history = unpack(packed(*(viewed(at) for at in range(100, 110))), ANNA)
    assert history.before(108, Bounds(events=3, ttl_ms=1_000)).at.tolist() == [105, 106, 107]
    assert history.before(108, Bounds(events=50, ttl_ms=4)).at.tolist() == [104, 105, 106, 107]


def test_the_moment_of_a_ranking_is_after_every_event_that_was_accepted() -> None:
    history = unpack(packed(viewed(1_000)), ANNA)
    assert [history.moment(now) for now in (990, 1_000, 1_001, 5_000)] == [1_001, 1_001, 1_001, 5_000]
    assert NOTHING.moment(990) == 990
