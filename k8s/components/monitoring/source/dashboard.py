"""The Grafana dashboard: a row is a question, a panel a part of its answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from k8s.components.monitoring.source.alerts import HOUR, OBJECTIVES, ratio_name

WIDTH = 24
HEIGHT = 7
RATE = "$__rate_interval"
# Of the pods that the dashboard's variable selects.
OURS = 'instance=~"$instance"'
SPLIT, TREATMENT = ', reason="hash"', ', variant="treatment"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """`queries`: legend -> PromQL. `marks`: values at which a line is drawn, in the panel's unit."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    says: str = ""
    marks: tuple[float, ...] = field(default=())


def rate(name: str, more: str = "") -> str:
    return f"rate({name}{{{OURS}{more}}}[{RATE}])"


def quantile(share: float, name: str, by: str) -> str:
    buckets = rate(f"{name}_bucket")
    return f"histogram_quantile({share}, sum by (le, {by}) ({buckets}))"


def burn(slo: str, budget: float) -> str:
    return f'{ratio_name(HOUR)}{{slo="{slo}"}} / {budget}'


ROWS: dict[str, list[Panel]] = {
    "Is it up?": [
        Panel("Instances that answer", {"answer": 'sum(up{job="frontrow"})'}, kind="stat"),
        Panel("Instances that are ready", {"ready": "sum(frontrow_ready)"}, kind="stat"),
        Panel(
            "Rankings by how they ended",
            {"{{outcome}}": f"sum by (outcome) ({rate('frontrow_requests_total')})"},
            "reqps",
            says="Offered is the sum of all outcomes, exactly.",
        ),
        Panel(
            "Burn of the month's error budget",
            {one.name: burn(one.name, one.budget) for one in OBJECTIVES},
            says="1 spends the budget of a month in a month. 14.4 in an hour, or 6 in six, is a page.",
            marks=(1, 6, 14.4),
        ),
    ],
    "Is it fast?": [
        Panel(
            "Latency",
            {
                f"p{100 * share:g} {{{{variant}}}}": quantile(share, "frontrow_request_duration_seconds", "variant")
                for share in (0.5, 0.99)
            },
            "s",
            says="From the arrival of the headers to the answer, all outcomes.",
            marks=(0.1,),
        ),
        Panel(
            "Where the time goes (p99 of each stage)",
            {"{{stage}}": quantile(0.99, "frontrow_stage_duration_seconds", "stage")},
            "s",
        ),
        Panel("Wait in line (p99)", {"{{variant}}": quantile(0.99, "frontrow_queue_wait_seconds", "variant")}, "s"),
        Panel(
            "Lag of the event loop",
            {"{{instance}}": f"frontrow_event_loop_lag_seconds{{{OURS}}}"},
            "s",
            says="The longest of the last second. A loop that stays late refuses requests.",
        ),
    ],
    "Is it full?": [
        Panel(
            "Offered utilization",
            {"{{instance}}": f"frontrow_offered_utilization{{{OURS}}}"},
            "percentunit",
            says="Seconds of scoring offered a second, refused ones included. The autoscaler aims at 60 %.",
            marks=(0.6, 1),
        ),
        Panel(
            "Refused at the door",
            {"{{variant}} {{reason}}": f"sum by (variant, reason) ({rate('frontrow_shed_total')})"},
            "reqps",
        ),
        Panel(
            "Requests in a batch (mean)",
            {
                "{{variant}}": f"sum by (variant) ({rate('frontrow_batch_requests_sum')})"
                f" / sum by (variant) ({rate('frontrow_batch_requests_count')})"
            },
            says="1 while the scorer is idle most of the time; it grows with the load.",
        ),
        Panel("Rows that wait", {"{{variant}}": f"sum by (variant) (frontrow_queue_rows{{{OURS}}})"}),
        Panel(
            "Cost of scoring against its calibration",
            {"{{instance}} {{variant}}": f"frontrow_cost_scale{{{OURS}}}"},
            says="How many times slower than measured at the start. Past 3 something else takes the CPU.",
            marks=(3,),
        ),
        Panel(
            "Why batches were cut",
            {"{{reason}}": f"sum by (reason) ({rate('frontrow_batch_dispatch_total')})"},
            "ops",
        ),
        Panel("Memory", {"{{instance}}": f'process_resident_memory_bytes{{job="frontrow", {OURS}}}'}, "bytes"),
        Panel("CPU", {"{{instance}}": f'rate(process_cpu_seconds_total{{job="frontrow", {OURS}}}[{RATE}])'}),
    ],
    "Which models?": [
        Panel(
            "Instances by model",
            {
                "{{variant}}: {{name}}/{{version}} ({{engine}})": "count by (variant, name, version, engine)"
                f" (frontrow_model_info{{{OURS}}})"
            },
            says="Two versions of a variant at a time mean that a release is on its way.",
        ),
        Panel("Instances by code", {"{{code_version}}": f"count by (code_version) (frontrow_build_info{{{OURS}}})"}),
        Panel(
            "Since the registry confirmed the model",
            {"{{variant}}": f"max by (variant) (time() - frontrow_model_verified_timestamp_seconds{{{OURS}}})"},
            "s",
        ),
        Panel(
            "On the last known good bundle",
            {"{{variant}}": f"sum by (variant) (frontrow_model_last_known_good{{{OURS}}})"},
            says="Instances that could not ask the registry when they started.",
        ),
        Panel(
            "Looks at the registry that found a change (an hour)",
            {
                "{{variant}} {{result}}": "sum by (variant, result)"
                f" (increase(frontrow_model_swaps_total{{{OURS}}}[1h]))"
            },
            says="`swapped` and `returned` serve now; after `refused` and `unreachable` the model before serves on.",
        ),
        Panel(
            "How alike the last new model ranks",
            {
                "{{variant}} tau": f"min by (variant) (frontrow_model_swap_kendall_tau{{{OURS}}})",
                "{{variant}} first ten": f"min by (variant) (frontrow_model_swap_top_overlap{{{OURS}}})",
            },
            says="Against the model before it, on what was ranked lately. 1: the same order.",
        ),
        Panel(
            "Age of the activity catalog",
            {"{{instance}}": f"time() - frontrow_catalog_loaded_timestamp_seconds{{{OURS}}}"},
            "s",
        ),
    ],
    "Who gets what?": [
        Panel(
            "Share of treatment among split visitors",
            {
                "treatment": f"sum({rate('frontrow_assignments_total', TREATMENT + SPLIT)})"
                f" / sum({rate('frontrow_assignments_total', SPLIT)})"
            },
            "percentunit",
        ),
        Panel(
            "Assignments by reason",
            {"{{variant}} {{reason}}": f"sum by (variant, reason) ({rate('frontrow_assignments_total')})"},
            "reqps",
            says="`fallback` has no visitor id and is left out of the experiment.",
        ),
        Panel(
            "Interleaved answers of one model alone",
            {"without {{variant}}": f"sum by (variant) ({rate('frontrow_interleaved_alone_total')})"},
            "reqps",
            says="By the variant that had no ranking. These answers tell nothing of which model is better.",
        ),
        Panel(
            "Sample ratio mismatch",
            {"alarm": "max(frontrow_srm_alarm)"},
            says="1: variants do not get the visitors that the split gives them.",
        ),
    ],
    "Is the world changing?": [
        Panel(
            "Drift of features (the ten largest)",
            {"{{variant}} {{feature}}": f"topk(10, max by (variant, feature) (frontrow_feature_drift_psi{{{OURS}}}))"},
            says="Population stability index against training. Alarms begin at 0.1, and where chance ends.",
            marks=(0.1, 0.25),
        ),
        Panel(
            "Drift of scores",
            {"{{variant}}": f"max by (variant) (frontrow_score_drift_psi{{{OURS}}})"},
            marks=(0.1, 0.25),
        ),
        Panel(
            "Categories that no model knows",
            {"{{feature}}": f"sum by (feature) ({rate('frontrow_unknown_category_total')})"},
            "ops",
        ),
        Panel(
            "Candidates that nobody knows", {"candidates": f"sum({rate('frontrow_unknown_candidate_total')})"}, "ops"
        ),
        Panel(
            "Alarms of drift",
            {
                "{{variant}} {{feature}}": f"max by (variant, feature) (frontrow_feature_drift_alarm{{{OURS}}}) > 0",
                "{{variant}} score": f"max by (variant) (frontrow_score_drift_alarm{{{OURS}}}) > 0",
            },
            says="1 warns, 2 pages: three windows were further from training than chance explains.",
        ),
        Panel(
            "Rankings without the visitor's history",
            {"{{variant}}": f"sum by (variant) ({rate('frontrow_degraded_total')})"},
            "reqps",
        ),
        Panel(
            "Wait for the feature store (p99)",
            {"{{store}}": quantile(0.99, "frontrow_feature_store_duration_seconds", "store")},
            "s",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model (schema version 39, Grafana 10.2 or later)."""
    return {
        "uid": "frontrow",
        "title": "Frontrow",
        "description": "Real-time activity ranking: a row is a question.",
        "tags": ["frontrow"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), _instance()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    query = "label_values(frontrow_build_info, instance)"
    return {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "instance"},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    numbers, y = count(1), 0
    for question, panels in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        yield {
            "id": next(numbers),
            "type": "row",
            "title": question,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        y += 1
        for line in _lines(panels):
            width = WIDTH // len(line)
            for position, panel in enumerate(line):
                place = {"h": HEIGHT, "w": width, "x": position * width, "y": y}
                yield {"id": next(numbers), **_panel(panel), "gridPos": place}
            y += HEIGHT


def _lines(panels: list[Panel]) -> list[list[Panel]]:
    """Up to four panels side by side, as evenly as it goes."""
    lines = -(-len(panels) // 4)
    each = -(-len(panels) // lines)
    return [panels[start : start + each] for start in range(0, len(panels), each)]


def _panel(panel: Panel) -> dict[str, Any]:
    steps = [{"color": "transparent", "value": None}, *({"color": "orange", "value": mark} for mark in panel.marks)]
    custom = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}
    if panel.marks:
        custom["thresholdsStyle"] = {"mode": "line"}
    described: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for number, (legend, expression) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
    }
    if panel.kind == "timeseries":
        described["fieldConfig"]["defaults"]["custom"] = custom
        described["options"] = {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}}
    return described
