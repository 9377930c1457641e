"""Pages for people: one HTML file without scripts, with pictures drawn in it, for a light screen and for a dark one."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --one: #4c8dd6; --other: #d98324; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #8884; }}
th {{ font-size: .8rem; letter-spacing: .04em; }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere; }}
.page {{ color: #d0534f; font-weight: bold; }}
.warn {{ color: #d98324; font-weight: bold; }}
.figures {{ margin-top: 1rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }}
figcaption {{ overflow-wrap: anywhere; }}
svg {{ width: 100%; height: auto; }}
.one {{ fill: var(--one); }}
.other {{ fill: var(--other); }}
.line {{ fill: none; stroke: var(--one); stroke-width: 2; }}
.axis {{ stroke: #808080; stroke-width: 1; }}
svg text {{ fill: #808080; font-size: 10px; }}
.key::before {{ content: ""; display: inline-block; width: .75em; height: .75em; margin: 0 .4em 0 1em; }}
.key.first::before {{ background: var(--one); }}
.key.second::before {{ background: var(--other); }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

WIDTH, HEIGHT = 320, 120
BARS: Final = 24


class Interval(NamedTuple):
    """A value and its confidence interval."""

    name: str
    value: float
    low: float
    high: float


def page(title: str, parts: Sequence[str]) -> str:
    """The document; `parts` are HTML."""
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def headline(text: str) -> str:
    return f"<p><strong>{escape(text)}</strong></p>"


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table of texts; `classes` has one for each row."""
    marked = classes or [""] * len(rows)
    lines = [_row("th", head, ""), *(_row("td", row, mark) for row, mark in zip(rows, marked, strict=True))]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def figures(parts: Sequence[str]) -> str:
    return '<div class="figures">\n' + "\n".join(parts) + "\n</div>"


def key(one: str, other: str) -> str:
    """What the two colors of `paired_bars` stand for."""
    return f'<p><span class="key first">{escape(one)}</span><span class="key second">{escape(other)}</span></p>'


def paired_bars(caption: str, labels: Sequence[str], one: Sequence[float], other: Sequence[float]) -> str:
    """A figure with two bars for each label, of values of 0 or more; of many labels the 24 with the largest bars."""
    places = sorted(sorted(range(len(labels)), key=lambda place: -max(one[place], other[place]))[:BARS])
    top = max([*one, *other, 1e-12])
    slot = WIDTH / len(places)
    drawn = []
    for slot_place, place in enumerate(places):
        for side, (kind, value) in enumerate((("one", one[place]), ("other", other[place]))):
            tall = (HEIGHT - 20) * value / top
            says = f"{labels[place]}: {value:.1%}"
            drawn.append(
                f'<rect class="{kind}" x="{slot * (slot_place + 0.1 + 0.4 * side):.1f}" y="{HEIGHT - tall:.1f}" '
                f'width="{0.4 * slot:.1f}" height="{tall:.1f}"><title>{escape(says)}</title></rect>'
            )
    return _figure(caption, [f'<text x="0" y="10">{top:.0%}</text>', *drawn, _axis(HEIGHT)])


def intervals(caption: str, values: Sequence[Interval]) -> str:
    """A figure with a line for each interval, one below the other on one scale, and a mark at its value."""
    low, high = min(one.low for one in values), max(one.high for one in values)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return 10 + (WIDTH - 20) * (value - low) / span

    step = (HEIGHT - 20) / (len(values) + 1)
    drawn = [_axis(HEIGHT - 14)]
    for place, one in enumerate(values, 1):
        y = step * place
        drawn.append(f'<line class="line" x1="{x(one.low):.1f}" y1="{y:.1f}" x2="{x(one.high):.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<circle class="other" cx="{x(one.value):.1f}" cy="{y:.1f}" r="4"/>')
        drawn.append(f'<text x="{x(one.low):.1f}" y="{y - 8:.1f}">{escape(one.name)}: {one.value:.4g}</text>')
    drawn.append(f'<text x="10" y="{HEIGHT}">{low:.4g}</text>')
    drawn.append(f'<text x="{WIDTH - 10}" y="{HEIGHT}" text-anchor="end">{high:.4g}</text>')
    return _figure(caption, drawn)


def _figure(caption: str, drawn: Sequence[str]) -> str:
    body = "\n".join(drawn)
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption>\n<svg viewBox="0 0 {WIDTH} {HEIGHT + 2}" role="img" '
        f'aria-label="{escape(caption)}">\n{body}\n</svg></figure>'
    )


def _axis(y: float) -> str:
    return f'<line class="axis" x1="0" y1="{y}" x2="{WIDTH}" y2="{y}"/>'


def _row(cell: str, values: Sequence[str], mark: str) -> str:
    kind = f' class="{mark}"' if mark else ""
    return f"<tr{kind}>" + "".join(f"<{cell}>{escape(value)}</{cell}>" for value in values) + "</tr>"
