"""The verdict as a page for people: why, the numbers of every gate, and the picture; one file, no script."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final

from release.rules import FAMILIES
from release.verdict import Verdict

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Canary: {verdict}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ border-left: .5rem solid {color}; padding-left: 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #8884; }}
th:first-child, td:first-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>Canary: {verdict}</h1>
<p>{summary}</p>
<h2>Why</h2>
<ul>
{reasons}
</ul>
<h2>Bad events</h2>
{events}
<h2>Latency and traffic</h2>
{latency}
<h2>Over time</h2>
{picture}
<h2>Evidence</h2>
<p>SHA-256 of <code>evidence.json</code>: <code>{sha256}</code>.
<code>frontrow canary judge --replay evidence.json</code> gives this verdict again.</p>
</body>
</html>
"""
COLORS: Final = {"PASS": "#3f9d5c", "FAIL": "#d0534f", "INCONCLUSIVE": "#d98324"}


def page(verdict: Verdict, picture: str) -> str:
    """Return HTML; `picture` is an SVG document."""
    return PAGE.format(
        verdict=verdict.verdict,
        color=COLORS[verdict.verdict],
        summary=escape(_summary(verdict)),
        reasons="\n".join(
            f"<li><strong>{reason.gate}, {escape(reason.subject)}</strong>: {escape(reason.says)}</li>"
            for reason in verdict.reasons
        ),
        events=_table(
            ("", "canary", "baseline", "factor", "FAILs at", "rate too high by at most"), list(_events(verdict))
        ),
        latency=_table(("", "canary", "baseline"), list(_latency(verdict.numbers))),
        picture=picture[picture.index("<svg") :],
        sha256=verdict.evidence_sha256,
    )


def _summary(verdict: Verdict) -> str:
    parts = [f"{verdict.judged_seconds / 60:g} minutes in {verdict.looks} looks, until {verdict.at}"]
    if verdict.rules.hotfix:
        parts.append("a hotfix: latency and share were not judged")
    if verdict.stage is not None:
        parts.append(f"stage {verdict.stage} %" + (f", next {verdict.next_stage} %" if verdict.next_stage else ""))
    return "; ".join(parts) + "."


def _events(verdict: Verdict) -> Iterator[Sequence[str]]:
    for family in FAMILIES:
        numbers = verdict.numbers["families"][family.name]
        counts = [f"{numbers['events'][arm]:,.0f} of {numbers['requests'][arm]:,.0f}" for arm in ("canary", "baseline")]
        excess = numbers["excess_rate_at_most"]
        yield (
            f"{family.name}: {family.says}",
            *counts,
            f"{10 ** min(numbers['log10_factor'], 99):,.3g}",
            f"{10 ** numbers['log10_needed']:,.0f}",
            f"{max(0.0, excess):.3%}" if excess < float("inf") else "unknown",
        )


def _latency(numbers: dict[str, Any]) -> Iterator[Sequence[str]]:
    p99, share = numbers["p99"], numbers["share"]
    yield ("p99", *(f"{p99['seconds'][arm] * 1e3:.2f} ms" for arm in ("canary", "baseline")))
    yield ("median p99 ratio of windows", f"{p99['median_ratio']:.3f}", "")
    yield ("windows over the tolerated ratio", f"{p99['over']} of {p99['windows']}", "")
    if share["observed"] is not None:
        yield ("share of the requests", f"{share['observed']:.2%}", f"{1 - share['observed']:.2%}")
    yield ("share that was expected", f"{share['expected']:.2%}", f"{1 - share['expected']:.2%}")
    yield ("targets", *(str(numbers["targets"][arm]) for arm in ("canary", "baseline")))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _row(cell: str, values: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(value)}</{cell}>" for value in values) + "</tr>"
