import math
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features import (
    DERIVED,
    KINDS,
    NOTHING,
    Bounds,
    Catalog,
    DerivedFeatures,
    Event,
    EventError,
    EventLog,
    History,
    Session,
    declare,
    point_in_time,
)
from features.derived import RECENT
from features.events import Kind, oldest_record, record, visitor_key
from features.history import DAY_MS, merge, unpack

HOUR_MS = 3_600_000
NOW = 1_790_000_000_000
NAN = math.nan
BOUNDS = Bounds()

ACTIVITIES: dict[str, tuple[str | None, str | None, float | None]] = {
    "louvre": ("museum", "Paris", 20.0),
    "orsay": ("museum", "Paris", 15.0),
    "seine": ("boat", "Paris", 30.0),
    "uffizi": ("museum", "Florence", 25.0),
    "pasta": ("food", "Florence", 80.0),
    "plain": (None, None, None),
}


def catalog_of(ids: list[str]) -> Catalog:
    return Catalog(
        pa.table(
            {
                "id": ids,
                **{
                    name: pa.array([ACTIVITIES[activity][place] for activity in ids], kind)
                    for place, (name, kind) in enumerate(
                        {"category": pa.string(), "city": pa.string(), "price": pa.float64()}.items()
                    )
                },
            }
        )
    )


CATALOG = catalog_of(list(ACTIVITIES))
CATEGORIES = ("boat", "food", "museum")
IDS = [*ACTIVITIES, "never heard of"]
CANDIDATES = np.array([CATALOG.rows.get(activity, len(CATALOG)) for activity in IDS])


def history(*events: tuple[str, float] | tuple[str, float, Kind]) -> History:
    """The history of (activity, hours ago, kind)."""
    records = [
        record(Event("anna", activity, kind[0] if kind else "view", NOW - round(hours * HOUR_MS)))
        for activity, hours, *kind in events
    ]
    value = merge(None, records, visitor_key("anna"), limit=200, oldest=oldest_record(0))
    return NOTHING if value is None else unpack(value, visitor_key("anna"))


def derived(name: str, of: History, *, catalog: Catalog = CATALOG, bounds: Bounds = BOUNDS) -> list[float]:
    """One feature for all of IDS."""
    rows = np.array([catalog.rows.get(activity, len(catalog)) for activity in IDS])
    categories = {one.name: one.categories for one in declare(CATALOG)}
    features = DerivedFeatures({name: categories[name]}, catalog, bounds)
    values: list[float] = features.values(of, NOW, rows)[:, 0].tolist()
    return values


def of_visitor(name: str, of: History, **options: Any) -> float:
    values = derived(name, of, **options)
    np.testing.assert_equal(values, [values[0]] * len(IDS))
    return values[0]


SHOPPING = history(
    ("pasta", 31 * 24, "booking"),
    ("uffizi", 100),
    ("pasta", 50, "booking"),
    ("louvre", 3, "view"),
    ("seine", 2, "click"),
    ("louvre", 1, "click"),
    ("louvre", 0.5),
    ("gone", 0.25),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visitor_hours_since_event", 0.25),
        ("visitor_views_1h", 3),
        ("visitor_views_7d", 7),
        ("visitor_clicks_7d", 2),
        ("visitor_bookings_30d", 1),
        ("visitor_favourite_category", CATEGORIES.index("museum")),
        ("visitor_mean_price", (25 + 80 + 20 + 30 + 20 + 20) / 6),
    ],
)
def test_what_a_history_says_about_its_visitor(name: str, value: float) -> None:
    assert of_visitor(name, SHOPPING) == value


@pytest.mark.parametrize(
    ("name", "values"),
    [  # of louvre, orsay, seine, uffizi, pasta, plain, and one that is in no catalog
        ("times_viewed", [3, 0, 1, 1, 1, 0, 0]),
        ("hours_since_viewed", [0.5, NAN, 2, 100, 50, NAN, NAN]),
        ("booked_before", [0, 0, 0, 0, 1, 0, 0]),
        ("same_category_share", [4 / 7, 4 / 7, 1 / 7, 4 / 7, 1 / 7, NAN, NAN]),
        ("same_city_share", [4 / 7, 4 / 7, 4 / 7, 2 / 7, 2 / 7, NAN, NAN]),
        ("price_to_viewed", [20 / 32.5, 15 / 32.5, 30 / 32.5, 25 / 32.5, 80 / 32.5, NAN, NAN]),
    ],
)
def test_what_a_history_says_about_a_visitor_and_an_activity(name: str, values: list[float]) -> None:
    np.testing.assert_equal(derived(name, SHOPPING), values)


@pytest.mark.parametrize("feature", DERIVED, ids=lambda feature: feature.name)
def test_of_whoever_is_new_counts_are_zero_and_all_else_is_missing(feature: Any) -> None:
    counts = ("visitor_views", "visitor_clicks", "visitor_bookings", "times_", "booked_")
    expected = 0.0 if feature.name.startswith(counts) else NAN
    np.testing.assert_equal(derived(feature.name, NOTHING), [expected] * len(IDS))


def test_of_equal_favourites_the_one_viewed_last_counts() -> None:
    assert of_visitor("visitor_favourite_category", history(("louvre", 3), ("seine", 2))) == CATEGORIES.index("boat")
    assert of_visitor("visitor_favourite_category", history(("seine", 3), ("louvre", 2))) == CATEGORIES.index("museum")


def test_only_the_last_ten_events_are_recent() -> None:
    events = history(
        *(("pasta", 100 - hours) for hours in range(90)), *(("louvre", 1 / (n + 1)) for n in range(RECENT))
    )
    assert derived("same_city_share", events, bounds=Bounds(events=100))[IDS.index("pasta")] == 0
    assert derived("same_city_share", events, bounds=Bounds(events=100))[IDS.index("orsay")] == 1


def test_free_activities_give_no_price_level() -> None:
    free = Catalog(pa.table({"id": ["louvre"], "price": [0.0]}))
    np.testing.assert_equal(derived("price_to_viewed", history(("louvre", 1)), catalog=free), [NAN] * len(IDS))


@pytest.mark.parametrize("feature", DERIVED, ids=lambda feature: feature.name)
def test_the_order_of_the_catalog_changes_nothing(feature: Any) -> None:
    for order in (list(reversed(ACTIVITIES)), sorted(ACTIVITIES)):
        np.testing.assert_equal(
            derived(feature.name, SHOPPING, catalog=catalog_of(order)), derived(feature.name, SHOPPING)
        )


@pytest.mark.parametrize("feature", DERIVED, ids=lambda feature: feature.name)
def test_a_catalog_without_any_column_gives_missing_values_and_no_error(feature: Any) -> None:
    values = derived(feature.name, SHOPPING, catalog=Catalog(pa.table({"id": list(ACTIVITIES)})))
    about = ("category", "city", "price")
    assert all(map(math.isnan, values)) == any(word in feature.name for word in about)


def test_events_at_the_moment_or_after_it_do_not_count() -> None:
    assert of_visitor("visitor_views_7d", history(("louvre", 0), ("louvre", -1), ("louvre", 1e-6))) == 1


def test_a_category_that_the_model_does_not_know_is_missing() -> None:
    features = DerivedFeatures({"visitor_favourite_category": ("zoo", "museum")}, CATALOG)
    assert features.values(SHOPPING, NOW, CANDIDATES[:1]).tolist() == [[1.0]]
    features = DerivedFeatures({"visitor_favourite_category": ("zoo",)}, CATALOG)
    np.testing.assert_equal(features.values(SHOPPING, NOW, CANDIDATES[:1]), [[NAN]])


def test_columns_come_in_the_order_that_was_asked_for() -> None:
    features = DerivedFeatures({"times_viewed": None, "visitor_views_7d": None}, CATALOG)
    assert features.names == ("times_viewed", "visitor_views_7d")
    assert features.values(SHOPPING, NOW, CANDIDATES[:2]).tolist() == [[3, 7], [0, 7]]


def test_no_candidates_are_no_rows() -> None:
    features = DerivedFeatures({"times_viewed": None, "visitor_views_7d": None}, CATALOG)
    for of in (SHOPPING, NOTHING):
        assert features.values(of, NOW, np.array([], dtype=np.intp)).shape == (0, 2)


def test_who_else_is_in_a_batch_changes_no_bit() -> None:
    random = Random(3)
    features = DerivedFeatures({one.name: one.categories for one in declare(CATALOG)}, CATALOG, Bounds(events=30))
    for _ in range(20):
        asked = [
            (
                history(
                    *(
                        (random.choice([*IDS, "gone"]), 10 ** random.uniform(-3, 3), random.choice(KINDS))
                        for _ in range(random.choice((0, 0, 1, 5, 60)))
                    )
                ),
                NOW + random.randrange(HOUR_MS),
                random.choices(CANDIDATES.tolist(), k=random.randrange(8)),
            )
            for _ in range(random.randint(1, 12))
        ]
        histories, moments, rows = zip(*asked, strict=True)
        together = np.array([row for some in rows for row in some], dtype=np.intp)
        of_visitors, of_candidates = features.of_batch(histories, moments, together, list(map(len, rows)))
        whole = np.hstack([of_visitors.repeat(list(map(len, rows)), axis=0), of_candidates])
        alone = [features.values(of, moment, np.array(some, dtype=np.intp)) for of, moment, some in asked]
        assert whole.tobytes() == np.concatenate(alone).tobytes()


def test_every_feature_is_declared_once_with_its_categories() -> None:
    declared = declare(CATALOG)
    assert set(Counter(one.name for one in declared).values()) == {1}
    assert [one.name for one in declared if one.role == "context"] == [
        one.name for one in declared if one.name.startswith("visitor_")
    ]
    assert {one.name: one.categories for one in declared if one.type == "category"} == {
        "visitor_favourite_category": CATEGORIES
    }


# Training and serving


def shopping(random: Random, visitors: list[str], events: int) -> list[Event]:
    """Events of six weeks in the order of time, some at one millisecond."""
    times = sorted(NOW - random.randrange(42 * DAY_MS) // 1_000 * 1_000 for _ in range(events))
    return [Event(random.choice(visitors), random.choice([*IDS, "gone"]), random.choice(KINDS), at) for at in times]


def table(events: list[Event]) -> pa.Table:
    return pa.table(dict(zip(Event._fields, map(list, zip(*events, strict=True)), strict=True)))


def test_training_has_the_numbers_that_serving_had_bit_for_bit() -> None:
    random = Random(11)
    visitors = [f"visitor {number}" for number in range(20)]
    events = shopping(random, visitors, 6_000)
    declared = {one.name: one.categories for one in declare(CATALOG)}
    features = DerivedFeatures(declared, CATALOG, BOUNDS)
    store: dict[str, bytes | None] = {}
    sessions: list[Session] = []
    served = []
    for event, after in pairwise([*events, Event("", "", "view", NOW)]):
        key = visitor_key(event.visitor)
        oldest = oldest_record(event.at - BOUNDS.ttl_ms)
        store[event.visitor] = merge(store.get(event.visitor), [record(event)], key, limit=BOUNDS.events, oldest=oldest)
        if after.at > event.at and len(sessions) < 1_000:
            visitor = random.choice(visitors)
            candidates = random.sample(IDS, 5)
            value = store.get(visitor)
            known = NOTHING if value is None else unpack(value, visitor_key(visitor))
            moment = known.moment(random.randint(event.at + 1, after.at))
            rows = np.array([CATALOG.rows.get(activity, len(CATALOG)) for activity in candidates])
            sessions.append(Session(visitor, moment, candidates))
            served.append(features.values(known, moment, rows))
    random.shuffle(events)
    log = EventLog(table([*events, *events[:500]]))
    trained = list(point_in_time(features, CATALOG, sessions, log))
    assert len(trained) == 1_000
    assert np.concatenate(trained).tobytes() == np.concatenate(served).tobytes()


def test_a_log_gives_each_visitor_their_events_once_and_in_order() -> None:
    log = EventLog(
        table(
            [
                Event("ben", "A2", "view", 30),
                Event("anna", "A1", "view", 20),
                Event("anna", "A1", "booking", 10),
                Event("anna", "A1", "view", 20),
            ]
        )
    )
    assert log.history("anna").at.tolist() == [10, 20]
    assert log.history("anna").kinds.tolist() == [KINDS.index("booking"), KINDS.index("view")]
    assert log.history("ben").at.tolist() == [30]
    assert log.history("carl") is NOTHING


def test_times_may_be_timestamps_of_any_unit() -> None:
    for unit in ("s", "ms", "us", "ns"):
        at = pa.array([NOW // 1_000 * 1_000], pa.timestamp("ms", "UTC")).cast(pa.timestamp(unit, "UTC"))
        log = EventLog(pa.table({"visitor": ["anna"], "activity": ["A1"], "kind": ["view"], "at": at}))
        assert log.history("anna").at.tolist() == [NOW // 1_000 * 1_000]


def test_a_log_of_no_events_knows_nobody() -> None:
    empty = {"visitor": pa.string(), "activity": pa.string(), "kind": pa.string(), "at": pa.int64()}
    assert EventLog(pa.schema(list(empty.items())).empty_table()).history("anna") is NOTHING


GOOD = {"visitor": ["anna"], "activity": ["A1"], "kind": ["view"], "at": [1]}


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"visitor": ["anna"], "at": [1]}, "has no column activity, kind"),
        (GOOD | {"kind": ["purchase"]}, "1 events are none of view, click, booking"),
        (GOOD | {"visitor": pa.array([None], pa.string())}, "1 events have no visitor"),
        (GOOD | {"at": pa.array([None], pa.int64())}, "1 events have no time"),
        (GOOD | {"at": [-1]}, "times from -1 to -1 ms are not all within"),
    ],
)
def test_a_table_that_holds_no_events_is_refused_by_its_fault(columns: dict[str, Any], fault: str) -> None:
    with pytest.raises(EventError, match=fault):
        EventLog(pa.table(columns))
