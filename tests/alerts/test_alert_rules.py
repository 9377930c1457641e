"""What wakes people up: each rule fires when it should and not when it should not, and names what exists."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from alert_cases import CASES, Case
from exported_metrics import asked_for, exported

from k8s.components.monitoring.source import files
from k8s.components.monitoring.source.alerts import Alert, alerts, rules

HOUSE = Path(__file__).parents[2]
COMPONENT = HOUSE / "k8s/components/monitoring"
ALERTS = {alert.name: alert for alert in alerts()}


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_test(case: Case) -> dict[str, object]:
    alert = ALERTS[case.alert]
    expected = {
        "exp_labels": {"severity": alert.severity, **case.labels},
        "exp_annotations": {"summary": case.says, "runbook": alert.runbook},
    }
    return {
        "rule_files": [str(COMPONENT / "rules.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {
                        "eval_time": f"{case.at_minutes}m",
                        "alertname": case.alert,
                        "exp_alerts": [] if case.says is None else [expected],
                    }
                ],
            }
        ],
    }


@pytest.mark.real("prometheus")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.name}")
def test_an_alert_fires_when_it_should_and_not_otherwise(case: Case, tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(promtool_test(case)))
    promtool("test", "rules", str(tmp_path / "test.yaml"))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert {case.alert for case in CASES if case.says is not None} == ALERTS.keys()
    assert {case.alert for case in CASES if case.says is None} == ALERTS.keys()


@pytest.mark.parametrize("name", files())
def test_what_is_made_is_as_its_source_says(name: str) -> None:
    assert (COMPONENT / name).read_text() == files()[name], "make monitoring"


def test_the_operator_gets_the_rules_of_the_plain_file() -> None:
    plain = yaml.safe_load((COMPONENT / "rules.yaml").read_text())
    operator = yaml.safe_load((COMPONENT / "prometheus-rule.yaml").read_text())
    assert operator["spec"] == plain


@pytest.mark.real("prometheus")
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", str(COMPONENT / "rules.yaml"))


@pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert.name)
def test_every_alert_leads_to_its_runbook_which_says_what_to_do(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")
    text = (HOUSE / page).read_text()
    (section,) = re.findall(rf"^### {alert.name}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert anchor == alert.name.lower()
    assert f"**{alert.severity}**" in section
    assert "**Do**" in section


def test_every_runbook_is_of_an_alert() -> None:
    text = (HOUSE / "docs/alerts.md").read_text()
    assert re.findall(r"^### (Frontrow\w+)$", text, re.MULTILINE) == list(ALERTS)


def test_rules_ask_only_for_metrics_that_the_service_exports() -> None:
    asked = asked_for(rule["expr"] for group in rules()["groups"] for rule in group["rules"])
    assert asked - exported() == set()


def test_rules_ask_for_recorded_series_that_are_recorded() -> None:
    every = [rule for group in rules()["groups"] for rule in group["rules"]]
    asked = {name for rule in every for name in re.findall(r"frontrow:\w+:\w+", rule["expr"])}
    assert asked == {rule["record"] for rule in every if "record" in rule}
