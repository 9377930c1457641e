"""The dashboard: every query is PromQL over metrics that exist, and Grafana finds what it needs."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from exported_metrics import asked_for, exported

from k8s.components.monitoring.source.alerts import rules
from k8s.components.monitoring.source.dashboard import ROWS, dashboard

SCHEMA = json.loads((Path(__file__).parent / "dashboard_schema.json").read_text())
DASHBOARD = dashboard()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_it_is_what_grafana_takes() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(DASHBOARD, SCHEMA)


@pytest.mark.parametrize("missing", ["id", "gridPos", "datasource", "fieldConfig", "targets"])
def test_a_panel_without_what_it_needs_is_found(missing: str) -> None:
    broken = dashboard()
    del broken["panels"][1][missing]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_every_panel_has_an_id_of_its_own_and_every_query_a_letter_of_its_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_no_two_panels_cover_each_other_and_none_leaves_the_grid() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        covered = set(covered_by(panel["gridPos"]))
        assert not cells & covered, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered


def covered_by(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_a_row_is_a_question() -> None:
    assert [row for row in ROWS if not row.endswith("?")] == []
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == list(ROWS)


def test_queries_ask_only_for_metrics_that_the_service_exports() -> None:
    assert asked_for(QUERIES) - exported() == set()


def test_queries_ask_only_for_series_that_the_rules_record() -> None:
    recorded = {rule["record"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}
    assert {name for query in QUERIES for name in re.findall(r"frontrow:\w+:\w+", query)} <= recorded


def test_queries_ask_only_for_labels_that_their_metrics_have() -> None:
    from app.metrics import Metrics

    labels = {f"{name}": set(re.findall(r"(\w+)=", rest)) for name, rest in samples(Metrics(["control", "treatment"]))}
    for query in QUERIES:
        for name, matchers in re.findall(r"(frontrow_\w+)\{([^}]*)\}", query):
            if name in labels:
                assert set(re.findall(r"(\w+)=", matchers)) <= labels[name] | {"instance", "job"}, query


def samples(metrics: Any) -> list[tuple[str, str]]:
    return re.findall(r"^(frontrow_\w+)\{([^}]*)\}", metrics.exposition().decode(), re.MULTILINE)


@pytest.mark.real("prometheus")
def test_every_query_is_promql(tmp_path: Path) -> None:
    shown = [query.replace("$__rate_interval", "1m").replace("$instance", ".*") for query in QUERIES]
    assert [query for query in shown if "$" in query] == []
    named = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(shown)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": named}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yaml")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
