"""Reading both arms out of a Prometheus: raw samples with the moments at which they were scraped."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from release.errors import ReleaseError
from release.evidence import COUNTS, OUTCOMES, Evidence, Scrape, Target
from release.rules import Rules

REQUESTS: Final = "frontrow_requests_total"
BUCKET: Final = "frontrow_request_duration_seconds_bucket"
READY: Final = "frontrow_ready"
STARTED: Final = "process_start_time_seconds"
BUILD: Final = "frontrow_build_info"
MODEL: Final = "frontrow_model_info"
GOLDEN: Final = "frontrow_golden_info"
TOTALS: Final = {"frontrow_requests_offered_total": "offered", "frontrow_unusable_rankings_total": "unusable"}
METRICS: Final = (REQUESTS, BUCKET, READY, STARTED, BUILD, MODEL, GOLDEN, *TOTALS, "up")

_MATCHER = r"""[a-zA-Z_]\w*\s*(?:=~|!~|!=|=)\s*(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_SELECTOR = re.compile(rf"\s*{_MATCHER}(?:\s*,\s*{_MATCHER})*\s*,?\s*")


class SelectorError(ReleaseError):
    """What should select an arm is no list of label matchers."""


class PrometheusError(ReleaseError):
    """Prometheus could not be reached, or did not answer what was asked."""


class Series(NamedTuple):
    labels: Mapping[str, str]
    samples: list[tuple[float, float]]


class Prometheus:
    """Its HTTP API. `headers` go with every request, for one behind a door."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 10.0) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise PrometheusError(f"{url!r} is no URL of a Prometheus; write http://host:9090")
        self._url = url.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout_seconds = timeout_seconds

    def now(self) -> float:
        """Return the time there, in seconds since the epoch: scrapes are stamped by that clock and no other."""
        return float(self._ask("time()")["result"][1])

    def evidence(self, rules: Rules, canary: str, baseline: str, start: float) -> Evidence:
        """Return what was scraped of both arms from `start` until now.

        canary, baseline: label matchers, such as `job="frontrow", track="canary"`. Raises `SelectorError` and
        `PrometheusError`, and `ValueError` where a target is in both arms.
        """
        end = self.now()
        return Evidence(
            rules=rules,
            start=start,
            end=end,
            canary=tuple(targets(self._series(canary, start, end))),
            baseline=tuple(targets(self._series(baseline, start, end))),
        )

    def _series(self, selector: str, start: float, end: float) -> Iterator[Series]:
        seconds = math.ceil(max(1.0, end - start))
        found = self._ask(f'{{__name__=~"{"|".join(METRICS)}", {checked(selector)}}}[{seconds}s]', end)
        for one in found["result"]:
            yield Series(one["metric"], [(float(at), float(value)) for at, value in one["values"] if at >= start])

    def _ask(self, query: str, at: float | None = None) -> dict[str, Any]:
        form = {"query": query} | ({} if at is None else {"time": repr(at)})
        request = urllib.request.Request(  # noqa: S310 the scheme was looked at
            f"{self._url}/api/v1/query", data=urllib.parse.urlencode(form).encode(), headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as answer:  # noqa: S310
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise PrometheusError(f"{self._url} said {error.code}: {_detail(error.read())}") from error
        except (OSError, ValueError) as error:
            raise PrometheusError(f"{self._url} did not answer: {error}") from error
        if not isinstance(said, dict) or said.get("status") != "success":
            raise PrometheusError(f"{self._url} is no Prometheus: its answer has no status of success")
        data: dict[str, Any] = said["data"]
        return data


def checked(selector: str) -> str:
    """Return label matchers that can only narrow a query, without the braces. Raises `SelectorError`."""
    inner = selector.strip().removeprefix("{").removesuffix("}")
    if not _SELECTOR.fullmatch(inner):
        raise SelectorError(
            f"""{selector!r} selects no arm; write label matchers, such as job="canary", stage="5" """.rstrip()
        )
    return inner


def targets(found: Iterable[Series]) -> Iterator[Target]:
    """Put all series of a target together, scrape by scrape: those of one scrape have the same moment."""
    by_target: defaultdict[str, list[Series]] = defaultdict(list)
    for series in found:
        by_target[_name(series.labels)].append(series)
    for name, its in sorted(by_target.items()):
        yield Target(name, tuple(_scrapes(its)))


def _name(labels: Mapping[str, str]) -> str:
    return "/".join(labels[label] for label in ("job", "instance") if label in labels)


def _scrapes(series: list[Series]) -> Iterator[Scrape]:
    values = [(one.labels, dict(one.samples)) for one in series]
    for at in sorted({at for _, samples in values for at in samples}):
        there = [(labels, samples.get(at)) for labels, samples in values]
        up = [value for labels, value in there if labels["__name__"] == "up"]
        yield Scrape(
            at=at,
            up=all(value == 1 for value in up),
            started_at=_only(there, STARTED),
            ready=_only(there, READY),
            code_version=_label(there, BUILD, "code_version"),
            models=_digests(there, MODEL),
            golden=_digests(there, GOLDEN),
            counts=_counts(there),
            durations=_durations(there),
        )


Sample = tuple[Mapping[str, str], float | None]


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum over all series that a target ever had; None when one of them is missing or is not finite."""
    known = list(values)
    if not known or any(value is None or not math.isfinite(value) for value in known):
        return None
    return math.fsum(value for value in known if value is not None)


def _counts(there: list[Sample]) -> dict[str, float | None]:
    parts: defaultdict[str, list[float | None]] = defaultdict(list)
    for labels, value in there:
        name = TOTALS.get(labels["__name__"])
        if labels["__name__"] == REQUESTS and labels.get("outcome") in OUTCOMES:
            name = labels["outcome"]
        if name:
            parts[name].append(value)
    return {name: _sum(parts[name]) for name in COUNTS if name in parts}


def _durations(there: list[Sample]) -> dict[str, float | None]:
    parts: defaultdict[float, list[float | None]] = defaultdict(list)
    for labels, value in there:
        if labels["__name__"] == BUCKET and "le" in labels:
            parts[float(labels["le"])].append(value)
    return {repr(edge): _sum(values) for edge, values in sorted(parts.items())}


def _only(there: list[Sample], metric: str) -> float | None:
    return _sum(value for labels, value in there if labels["__name__"] == metric)


def _label(there: list[Sample], metric: str, label: str) -> str | None:
    found = sorted(labels.get(label, "") for labels, value in there if labels["__name__"] == metric and value == 1)
    return " and ".join(found) or None


def _digests(there: list[Sample], metric: str) -> dict[str, str]:
    return {
        labels.get("variant", ""): labels.get("sha256", "")
        for labels, value in there
        if labels["__name__"] == metric and value == 1
    }


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
