"""The text of a scrape, made cheaply enough for the event loop.

`prometheus_client` makes every line anew, which takes milliseconds for hundreds of series. All of a line but its value
stays the same until a series begins or ends, so that is kept here, as the library wrote it.
"""

import re
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable
from itertools import accumulate, chain
from math import fsum
from typing import Self, cast

import prometheus_client
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

# Of a line that is no comment, the last word. Labels hold no line breaks: those are escaped.
VALUE = re.compile(r"^([^#\n].* )\S+$", re.MULTILINE)
GAP = "\n\n"  # there are no empty lines
MOST_UNSORTED = 200


class _Metric(MetricWrapperBase):
    """A metric of the library that tells its values without their names."""

    def series(self) -> list[Self]:
        if self._is_parent():  # type: ignore[no-untyped-call]
            return list(self._metrics.values())  # type: ignore[arg-type] # children are of their parent's class
        return [self]

    def values(self) -> list[float]:
        """The values of a series, in the order of its lines."""
        raise NotImplementedError


class Counter(_Metric, prometheus_client.Counter):
    def values(self) -> list[float]:
        return [self._value.get()]


class Gauge(_Metric, prometheus_client.Gauge):
    def values(self) -> list[float]:
        return [self._value.get()]


class Histogram(_Metric, prometheus_client.Histogram):
    """Sorts what it observed into its buckets many at a time, or when somebody looks.

    Each value by itself takes two locks, which for the histograms of a ranking is a twentieth of its whole cost.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._unsorted: list[float] = []

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is not None:
            raise ValueError("there are no exemplars in this text")
        self._unsorted.append(amount)
        if len(self._unsorted) >= MOST_UNSORTED:
            self.sort()

    def sort(self) -> None:
        """Put what was observed into its buckets."""
        amounts, self._unsorted = self._unsorted, []
        for bucket, many in Counts(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(many)
        if amounts:
            self._sum.inc(fsum(amounts))

    def values(self) -> list[float]:
        self.sort()
        buckets = list(accumulate([bucket.get() for bucket in self._buckets]))
        return [*buckets, buckets[-1], self._sum.get()]

    def _child_samples(self) -> Iterable[Sample]:
        self.sort()
        return super()._child_samples()


class Exposition(CollectorRegistry):
    """Holds metrics of this module. They are told things, and asked for `text`, in one thread: the event loop's."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__()
        self._metrics: list[_Metric] = []
        self._series: list[_Metric] | None = None
        self._between: list[str] = []  # what stands before each value, and behind the last one
        self._words: dict[float, str] = {}  # the values of the last text, as they are written

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self._metrics.append(cast("_Metric", collector))
        self._series = None

    def sort(self) -> None:
        """Count all that was observed, for whoever reads the values of this process without asking it."""
        for metric in self._metrics:
            if isinstance(metric, Histogram):
                for one in metric.series():
                    one.sort()

    def text(self) -> str:
        """What `generate_latest` says of these metrics."""
        series = [one for metric in self._metrics for one in metric.series()]
        if series != self._series:
            self._between = VALUE.sub(f"\\1{GAP}", generate_latest(self).decode()).split(GAP)
            self._series = series
        words = self._written([value for one in series for value in one.values()])
        return "".join(chain.from_iterable(zip(self._between, [*words, ""], strict=True)))

    def _written(self, values: list[float]) -> list[str]:
        """Many buckets have the same count, and many series are what they were."""
        before, self._words = self._words, dict.fromkeys(values, "")
        for value in self._words:
            self._words[value] = before.get(value) or floatToGoString(value)  # type: ignore[no-untyped-call]
        return [self._words[value] for value in values]
