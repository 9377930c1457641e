"""Findings as Markdown: what each server passed, and every check that one of them failed."""

from collections.abc import Mapping, Sequence

from benchmarks.conformance.suite import Row


def markdown(rows: Mapping[str, Sequence[Row]], unmeasured: Mapping[str, str]) -> str:
    """Two tables; `rows` by the servers' names, `unmeasured` has the reason of those that did not come up."""
    groups = list(dict.fromkeys(row.group for each in rows.values() for row in each))
    summary = [_line([group, *(_passed(each, group) for each in rows.values())]) for group in groups]
    failures = [line for checks in zip(*rows.values(), strict=True) for line in _failure(checks)]
    head = [_line(["", *rows]), _line(["---"] * (len(rows) + 1))]
    parts = ["\n".join([*head, *summary])]
    if failures:
        parts.append(
            "\n".join(["What was seen where one of them failed (**bold**: the failure):", "", *head, *failures])
        )
    parts += [f"- {name} was not examined: {reason}" for name, reason in unmeasured.items()]
    return "\n\n".join(parts) + "\n"


def _passed(rows: Sequence[Row], group: str) -> str:
    found = [row.passed for row in rows if row.group == group]
    return f"{sum(found)} of {len(found)}"


def _failure(checks: Sequence[Row]) -> list[str]:
    """One check of all servers, where one of them failed it."""
    if all(row.passed for row in checks):
        return []
    return [_line([checks[0].name, *(row.seen if row.passed else f"**{row.seen}**" for row in checks)])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
