"""The text of a scrape, made cheaply enough for the event loop.

`prometheus_client` makes every line anew, which takes milliseconds for hundreds of series. All of a line but its value
stays the same until a series begins or ends, so that is kept here, as the library wrote it.
"""

import os
import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from math import fsum
from typing import Self, cast

import numpy as np
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

    def sort(self) -> None:
        """Put what a series was told where the library keeps it."""


class Counter(_Metric, prometheus_client.Counter):
    """Adds what it was told to the library's value when somebody looks, which takes a lock each time.

    Of several processes each is asked by the others, and tells at once.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._uncounted = 0.0
        self._at_once = "PROMETHEUS_MULTIPROC_DIR" in os.environ

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        if amount < 0 or exemplar is not None:
            raise ValueError("counters never fall, and there are no exemplars in this text")
        self._uncounted += amount
        if self._at_once:
            self.sort()

    def sort(self) -> None:
        amount, self._uncounted = self._uncounted, 0.0
        if amount:
            self._value.inc(amount)

    def values(self) -> list[float]:
        self.sort()
        return [self._value.get()]

    def _child_samples(self) -> Iterable[Sample]:
        self.sort()
        return super()._child_samples()


class Gauge(_Metric, prometheus_client.Gauge):
    def values(self) -> list[float]:
        return [self._value.get()]


class Histogram(_Metric, prometheus_client.Histogram):
    """Sorts what it observed into its buckets many at a time, or when somebody looks.

    Each value by itself takes two locks, which for the histograms of a ranking is a twentieth of its whole cost.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._unsorted = array("d")
        self._bounds = np.array(self._upper_bounds)

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is not None:
            raise ValueError("there are no exemplars in this text")
        self._unsorted.append(amount)
        if len(self._unsorted) >= MOST_UNSORTED:
            self.sort()

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._unsorted.extend(amounts)
        self.sort()

    def sort(self) -> None:
        amounts, self._unsorted = self._unsorted, array("d")
        if not amounts:
            return
        found = np.bincount(self._bounds.searchsorted(np.frombuffer(amounts)))
        for bucket, count in enumerate(found.tolist()):
            if count:
                self._buckets[bucket].inc(count)
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
