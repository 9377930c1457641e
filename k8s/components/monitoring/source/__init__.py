"""Alert rules and dashboard, written down once; the files beside this folder are made from it."""

import json
from typing import Any

import yaml

from k8s.components.monitoring.source.alerts import prometheus_rule, rules
from k8s.components.monitoring.source.dashboard import dashboard

MADE = "# Made by `make monitoring` from source/; change it there.\n"


def files() -> dict[str, str]:
    """Name of each file in the component -> its text."""
    return {
        "rules.yaml": MADE + _yaml(rules()),
        "prometheus-rule.yaml": MADE + _yaml(prometheus_rule()),
        "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
    }


def _yaml(document: dict[str, Any]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, width=1_000, allow_unicode=True))
