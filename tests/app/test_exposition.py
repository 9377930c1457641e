"""The text of a scrape: what `prometheus_client` would write, without its work."""

import math
from itertools import cycle

import httpx
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from served import serving

from app.exposition import MOST_UNSORTED, Counter, Exposition, Gauge, Histogram
from app.service import Service

VALUES = (0.0, 1.0, 0.1, 1e-9, 123_456.0, 1_234_567.0, 1e21, math.pi, math.inf)
STRANGE = ('a "quote"', "back\\slash", "two\nlines", "# HELP", "{} %s \0", "ends in a space ", "", "größer")


@pytest.fixture
def registry() -> Exposition:
    return Exposition()


def expect_what_the_library_says(registry: Exposition) -> None:
    assert registry.text() == generate_latest(registry).decode()


def test_nothing_is_told_of_nothing(registry: Exposition) -> None:
    assert registry.text() == ""


def test_a_metric_without_series_is_named_all_the_same(registry: Exposition) -> None:
    Counter("lone", "Nobody looks.", ["variant"], registry=registry)
    assert registry.text() == "# HELP lone_total Nobody looks.\n# TYPE lone_total counter\n"


def test_every_kind_and_every_value_reads_as_the_library_writes_it(registry: Exposition) -> None:
    counter = Counter("things", "Things, \\ and\nmore.", registry=registry)
    gauges = Gauge("level", "Level.", ["of"], registry=registry)
    Gauge("empty", "Nothing between full ones.", ["of"], registry=registry)
    spans = Histogram("span", "Span.", ["zone", "area"], buckets=(0.001, 0.5, 1e7), registry=registry)
    for number, value in enumerate((*VALUES, math.nan, -math.inf, -2.5)):
        gauges.labels(f"number {number}").set(value)
    for value in VALUES:
        counter.inc(value)
        spans.labels("zone", "area").observe(value)
        expect_what_the_library_says(registry)


def test_a_histogram_counts_in_the_buckets_of_the_library(registry: Exposition) -> None:
    theirs = CollectorRegistry()
    bounds = (0.001, 0.5, 1.0, 1e7)
    spans = [
        kind("span", "Span.", buckets=bounds, registry=of)
        for kind, of in ((Histogram, registry), (prometheus_client.Histogram, theirs))
    ]
    for value in (*VALUES, *bounds, *(math.nextafter(bound, way) for bound in bounds for way in (-math.inf, math.inf))):
        for one in spans:
            one.observe(value)
    assert registry.text() == generate_latest(theirs).decode()


def test_a_histogram_tells_at_once_what_it_has_not_sorted_yet(registry: Exposition) -> None:
    spans = Histogram("span", "Span.", ["zone"], buckets=(1.0, 2.0), registry=registry)
    for number in range(3 * MOST_UNSORTED + 1):
        spans.labels("here").observe(0.5 + number % 3)
        if number % 70 == 0:
            expect_what_the_library_says(registry)
            assert registry.get_sample_value("span_count", {"zone": "here"}) == number + 1
    assert registry.get_sample_value("span_sum", {"zone": "here"}) == MOST_UNSORTED * 4.5 + 0.5


def test_what_is_sorted_is_there_for_who_does_not_ask(registry: Exposition) -> None:
    spans = Histogram("span", "Span.", buckets=(1.0, 2.0), registry=registry)
    spans.observe(1.5)
    kept = [bucket.get() for bucket in spans._buckets]  # noqa: SLF001 what another process finds in a file
    registry.sort()
    assert (kept, [bucket.get() for bucket in spans._buckets]) == ([0, 0, 0], [0, 1, 0])  # noqa: SLF001


def test_a_counter_tells_at_once_what_it_was_told(registry: Exposition) -> None:
    counter = Counter("things", "Things.", ["kind"], registry=registry)
    for number in range(1, 4):
        counter.labels("round").inc(0.5)
        assert registry.get_sample_value("things_total", {"kind": "round"}) == number / 2
        expect_what_the_library_says(registry)


def test_a_counter_never_falls(registry: Exposition) -> None:
    counter = Counter("things", "Things.", registry=registry)
    with pytest.raises(ValueError, match="never fall"):
        counter.inc(-1)
    assert registry.get_sample_value("things_total") == 0


def test_of_several_processes_each_counts_at_once(registry: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "anywhere")  # the library chose where to keep values long before
    counter = Counter("things", "Things.", registry=registry)
    counter.inc()
    assert counter._value.get() == 1  # noqa: SLF001 what another process finds in a file


def test_labels_may_say_anything(registry: Exposition) -> None:
    counter = Counter("strange", "Strange.", ["what"], registry=registry)
    for what, value in zip(STRANGE, cycle(VALUES)):
        counter.labels(what).inc(value)
    expect_what_the_library_says(registry)


def test_a_series_is_told_from_its_beginning_to_its_end(registry: Exposition) -> None:
    gauge = Gauge("level", "Level.", ["of"], registry=registry)
    other = Gauge("other", "Other.", registry=registry)
    for of in ("water", "wine"):
        gauge.labels(of).set(1)
        expect_what_the_library_says(registry)
    gauge.remove("water")
    other.set(3)
    expect_what_the_library_says(registry)
    gauge.labels("water").set(2)  # behind the other one now
    expect_what_the_library_says(registry)
    Counter("late", "Late.", ["why"], registry=registry)
    expect_what_the_library_says(registry)


async def test_a_scrape_is_text_of_prometheus_with_the_process_and_the_rankings(service: Service) -> None:
    async with serving(service) as client:
        for _ in range(3):
            await client.post("/v1/rank", json=service.example())
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples_of(answer)
    assert found["process_resident_memory_bytes"] > 0
    assert found['frontrow_requests_total{"outcome": "ok", "variant": "control"}'] == 3


def samples_of(answer: httpx.Response) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ", ".join(f'"{name}": "{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
