"""The metrics that the service has, and those that an expression asks for."""

import re
from collections.abc import Iterable

from app.metrics import Metrics


def exported() -> set[str]:
    """Names of all series, with the suffixes of histograms."""
    families = re.findall(r"# TYPE (\S+) (\S+)", Metrics(["control", "treatment"]).exposition().decode())
    names = {name for name, _ in families}
    return names | {f"{name}_{part}" for name, kind in families if kind == "histogram" for part in PARTS}


PARTS = ("bucket", "count", "sum")


def asked_for(expressions: Iterable[str]) -> set[str]:
    """Names of metrics of the service in PromQL; recorded series (with colons) are not among them."""
    pattern = r"(?<![:\w])(?:frontrow|process)_[a-z0-9_]+(?![:\w])"
    return {name for expression in expressions for name in re.findall(pattern, expression)}
