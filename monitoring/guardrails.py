"""What an experiment must not cost: errors and time, from the metrics that the service exports."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from monitoring.intervals import Estimate, share, share_difference

BAD: Final = ("error", "shed", "expired")
QUANTILE: Final = 0.99
TOLERATED_FAILURES: Final = 0.001  # more of treatment's rankings may fail than of control's, as a share
TOLERATED_P99: Final = 1.10  # times control's
LEAST_REQUESTS: Final = 1_000


class Side(NamedTuple):
    """One variant: rankings that were asked for and not called off, the share that failed, and the p99 in seconds."""

    rankings: int
    failed: Estimate
    p99_seconds: float


class Guardrails(NamedTuple):
    control: Side
    treatment: Side
    failed_difference: Estimate
    broken: tuple[str, ...]


def read_guardrails(exposition: str) -> Guardrails | None:
    """Compare the variants by the text of a scrape; None where one of them has fewer than 1,000 rankings."""
    outcomes: dict[str, dict[str, float]] = {}
    buckets: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            variant = sample.labels.get("variant", "")
            if sample.name == "frontrow_requests_total":
                outcomes.setdefault(variant, {})[sample.labels["outcome"]] = sample.value
            elif sample.name == "frontrow_request_duration_seconds_bucket":
                buckets.setdefault(variant, {})[float(sample.labels["le"])] = sample.value
    sides = [_side(outcomes.get(name, {}), buckets.get(name, {})) for name in ("control", "treatment")]
    if min(side.rankings for side in sides) < LEAST_REQUESTS:
        return None
    control, treatment = sides
    difference = share_difference(treatment.failed, control.failed)
    return Guardrails(control, treatment, difference, tuple(_broken(control, treatment, difference)))


def quantile(buckets: Mapping[float, float], q: float) -> float:
    """The quantile of a histogram's cumulative buckets, linear within one, as Prometheus's `histogram_quantile`."""
    edges = sorted(buckets)
    wanted = q * buckets[edges[-1]]
    below, under = 0.0, 0.0
    for edge in edges[:-1]:
        if buckets[edge] >= wanted:
            return below + (edge - below) * (wanted - under) / (buckets[edge] - under)
        below, under = edge, buckets[edge]
    return below


def _side(outcomes: Mapping[str, float], buckets: Mapping[float, float]) -> Side:
    rankings = int(sum(count for outcome, count in outcomes.items() if outcome not in ("cancelled", "invalid")))
    failed = share(int(sum(outcomes.get(outcome, 0.0) for outcome in BAD)), rankings)
    return Side(rankings, failed, quantile(buckets, QUANTILE) if buckets else float("nan"))


def _broken(control: Side, treatment: Side, difference: Estimate) -> list[str]:
    words = []
    if difference.low > TOLERATED_FAILURES:
        words.append(
            f"{treatment.failed.value:.2%} of treatment's rankings fail and {control.failed.value:.2%} of control's"
        )
    if treatment.p99_seconds > TOLERATED_P99 * control.p99_seconds:
        words.append(
            f"treatment's p99 is {1e3 * treatment.p99_seconds:.1f} ms and control's {1e3 * control.p99_seconds:.1f} ms"
        )
    return words
