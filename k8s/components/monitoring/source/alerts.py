"""The alert rules, and the recorded series that they and the dashboard share.

Burn rates and their windows: Google, The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["page", "ticket"]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
EVERY = 15.0
RUNBOOKS = "docs/alerts.md"


@dataclass(frozen=True)
class Objective:
    """A promise: `budget` is the share of `events` that may be `bad`; both are rates a second over `[{window}]`."""

    name: str
    budget: float
    bad: str
    events: str
    broken: str


# A ranking that its caller gave up or got wrong says nothing about us, but one that was given up late was slow.
OBJECTIVES = (
    Objective(
        "availability",
        0.001,
        'sum(rate(frontrow_requests_total{{outcome=~"error|shed|expired"}}[{window}]))',
        'sum(rate(frontrow_requests_total{{outcome!~"cancelled|invalid"}}[{window}]))',
        "rankings are refused or fail",
    ),
    Objective(
        "latency",
        0.01,
        "sum(rate(frontrow_request_duration_seconds_count[{window}]))"
        ' - sum(rate(frontrow_request_duration_seconds_bucket{{le="0.1"}}[{window}]))',
        "sum(rate(frontrow_request_duration_seconds_count[{window}]))",
        "rankings take more than 100 ms",
    ),
)


@dataclass(frozen=True)
class Burn:
    """Budget that is spent `rate` times too fast over `long`, and still is over `short` (both in seconds)."""

    name: str
    rate: float
    long: float
    short: float
    severity: Severity
    spent: str


BURNS = (
    Burn("FastBurn", 14.4, HOUR, 5 * MINUTE, "page", "2 % of the month's budget went in an hour"),
    Burn("Burn", 6, 6 * HOUR, 30 * MINUTE, "page", "5 % of the month's budget went in six hours"),
    Burn("SlowBurn", 1, 3 * DAY, 6 * HOUR, "ticket", "10 % of the month's budget went in three days"),
)
WINDOWS = sorted({window for burn in BURNS for window in (burn.long, burn.short)})


@dataclass(frozen=True)
class Alert:
    """`lasting` is how long, in seconds, it has to be true before anybody is told."""

    name: str
    expression: str
    severity: Severity
    summary: str
    lasting: float = 0.0

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}#{self.name.lower()}"


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them, in the largest unit that fits.

    >>> duration(21600), duration(0.5)
    ('6h', '500ms')
    """
    milliseconds = round(1000 * seconds)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def ratio_name(window: float) -> str:
    """The recorded share of bad events over a window of so many seconds, by `slo`."""
    return f"frontrow:slo_bad:ratio{duration(window)}"


def alerts(shorter: float = 1.0) -> list[Alert]:
    """Every alert. All durations are divided by `shorter`, for tests that cannot wait for an hour."""
    minute, hour, day = MINUTE / shorter, HOUR / shorter, DAY / shorter
    return [
        Alert(
            "FrontrowDown",
            'absent(up{job="frontrow"} == 1)',
            "page",
            "No instance of Frontrow answers: nobody gets a ranking",
            minute,
        ),
        Alert(
            "FrontrowTargetMissing",
            'up{job="frontrow"} == 0',
            "ticket",
            "{{ $labels.instance }} does not answer Prometheus",
            5 * minute,
        ),
        Alert(
            "FrontrowNotReady",
            "frontrow_ready == 0",
            "ticket",
            "{{ $labels.instance }} runs and is not ready",
            10 * minute,
        ),
        *_burn_alerts(),
        Alert(
            "FrontrowShedding",
            f"sum(rate(frontrow_shed_total[{duration(5 * minute)}]))"
            f" / sum(rate(frontrow_requests_offered_total[{duration(5 * minute)}])) > 0.01",
            "ticket",
            "{{ $value | humanizePercentage }} of rankings are refused at the door",
            5 * minute,
        ),
        Alert(
            "FrontrowScoringSlow",
            "frontrow_cost_scale > 3",
            "ticket",
            '{{ $labels.instance }} scores {{ $value | printf "%.1f" }} times slower than when it started',
            10 * minute,
        ),
        *_drift_alerts(minute),
        Alert(
            "FrontrowSampleRatioMismatch",
            "max(frontrow_srm_alarm) == 1",
            "ticket",
            "Variants do not get the visitors that the split gives them: the experiment's figures mean nothing",
            5 * minute,
        ),
        Alert(
            "FrontrowModelStale",
            "time() - (frontrow_model_verified_timestamp_seconds and frontrow_model_last_known_good == 1)"
            f" > {hour:g}",
            "ticket",
            "{{ $labels.instance }} serves a {{ $labels.variant }} model that no registry has confirmed for"
            " {{ $value | humanizeDuration }}",
            5 * minute,
        ),
        Alert(
            "FrontrowCatalogStale",
            # Activities that came with the model are as old as the instance, which is no fault; others are renewed.
            "max by (instance) (time() - (frontrow_catalog_loaded_timestamp_seconds"
            f" > frontrow_model_loaded_timestamp_seconds + {5 * minute:g})) > {2 * day:g}",
            "ticket",
            "{{ $labels.instance }} ranks with activities of {{ $value | humanizeDuration }} ago",
            5 * minute,
        ),
        Alert(
            "FrontrowFeatureStoreDegraded",
            "max(frontrow_feature_store_degraded) == 1",
            "ticket",
            "Visitors are ranked without their histories: the feature store does not answer",
            5 * minute,
        ),
    ]  # fmt: skip


def _burn_alerts() -> list[Alert]:
    return [
        Alert(
            f"Frontrow{objective.name.capitalize()}{burn.name}",
            " and ".join(
                f'{ratio_name(window)}{{slo="{objective.name}"}} > {burn.rate * objective.budget:.6g}'
                for window in (burn.long, burn.short)
            ),
            burn.severity,
            f"{{{{ $value | humanizePercentage }}}} of {objective.broken}: {burn.spent}",
        )
        for objective in OBJECTIVES
        for burn in BURNS
    ]


def _drift_alerts(minute: float) -> list[Alert]:
    # The service judges its windows itself, each against what chance explains: 1 warns, 2 pages.
    watched = (("feature", "by (variant, feature)", "{{ $labels.feature }}"), ("score", "by (variant)", "The score"))
    grades: tuple[tuple[str, Severity, int], ...] = (("", "ticket", 1), ("Severe", "page", 2))
    return [
        Alert(
            f"Frontrow{kind.capitalize()}Drift{grade}",
            f"max {by} (frontrow_{kind}_drift_psi) and max {by} (frontrow_{kind}_drift_alarm) == {level}",
            severity,
            what + ' of the {{ $labels.variant }} model is not as trained: PSI {{ $value | printf "%.2f" }}',
            minute,
        )
        for kind, by, what in watched
        for grade, severity, level in grades
    ]


def recorded(shorter: float = 1.0) -> list[dict[str, Any]]:
    """Rates over two minutes, and the share of bad events over each window.

    Windows average the recorded rates: the same figure as over the counters of every pod, at a thousandth of what
    three days of those cost to read.
    """
    two = duration(2 * MINUTE / shorter)
    rules = []
    for objective in OBJECTIVES:
        for kind, rate in (("bad", objective.bad), ("events", objective.events)):
            rules.append(
                {
                    "record": f"frontrow:slo_{kind}:rate2m",
                    "labels": {"slo": objective.name},
                    "expr": rate.format(window=two),
                }
            )
    for window in WINDOWS:
        over = duration(window / shorter)
        rules.append(
            {
                "record": ratio_name(window),
                "expr": f"avg_over_time(frontrow:slo_bad:rate2m[{over}])"
                f" / avg_over_time(frontrow:slo_events:rate2m[{over}])",
            }
        )
    return rules


def rules(shorter: float = 1.0) -> dict[str, Any]:
    """A Prometheus rules file."""
    watched = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            **({"for": duration(alert.lasting)} if alert.lasting else {}),
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": alert.runbook},
        }
        for alert in alerts(shorter)
    ]
    every = duration(max(1.0, EVERY / shorter))
    return {
        "groups": [
            {"name": "frontrow-slo", "interval": every, "rules": recorded(shorter)},
            {"name": "frontrow-alerts", "interval": every, "rules": watched},
        ]
    }


def prometheus_rule() -> dict[str, Any]:
    """The same for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "frontrow",
            "namespace": "frontrow",
            "labels": {"app.kubernetes.io/name": "frontrow"},
        },
        "spec": rules(),
    }
