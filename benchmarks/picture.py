"""Pictures of a series: latency and goodput against offered load, and a profile over time.

Drawn in mid tones on nothing, so that they read on a light page and on a dark one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#808080"
BLUE, ORANGE, GREEN, RED = "#4c8dd6", "#d98324", "#3f9d5c", "#d0534f"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "frontrow",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"], INK
    ),
}


def draw_loads(runs: Sequence[Measured], capacity: float | None, deadline_seconds: float, path: Path) -> None:
    """Write goodput (above) and latency (below) against offered load; the ending of `path` says SVG or PNG."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(7, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        runs = sorted(runs, key=lambda run: run.figures.whole.rate)
        _draw_goodput(above, runs, capacity)
        _draw_latency(below, runs, deadline_seconds)
        figure.savefig(path, transparent=True, metadata=_undated(path))


def draw_profile(run: Measured, path: Path) -> None:
    """Write the offered load and the goodput of each 100 ms, by when the requests were due."""
    from matplotlib.figure import Figure

    windows = run.figures.windows
    moments = [number * windows.seconds for number in range(len(windows.due))]
    with _style():
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        for counts, color, label in ((windows.due, INK, "offered"), (windows.ok, GREEN, "answered in time")):
            axes.plot(moments, [count / windows.seconds for count in counts], color=color, label=label, linewidth=1.5)
        axes.set(xlabel="seconds", ylabel="requests/s", ylim=(0, None))
        _legend(axes)
        figure.savefig(path, transparent=True, metadata=_undated(path))


def _draw_goodput(axes: "Axes", runs: Sequence[Measured], capacity: float | None) -> None:
    wholes = [run.figures.whole for run in runs]
    rates = [whole.rate for whole in wholes]
    top = 1.15 * max(*(whole.goodput for whole in wholes), capacity or 1)
    axes.plot(rates, [min(rate, 2 * top) for rate in rates], color=INK, linestyle=":", label="offered")
    axes.plot(rates, [whole.goodput for whole in wholes], color=GREEN, marker="o", label="answered in time")
    if capacity:
        axes.axhline(capacity, color=INK, linestyle="--", linewidth=1, label="capacity C")
    axes.set(ylabel="requests/s", ylim=(0, top))
    _legend(axes)


def _draw_latency(axes: "Axes", runs: Sequence[Measured], deadline_seconds: float) -> None:
    for kind, name, color, label in (
        ("accepted", "p50", BLUE, "accepted p50"),
        ("accepted", "p99", ORANGE, "accepted p99"),
        ("refusals", "p99", RED, "refusals p99"),
    ):
        found = [(run.figures.whole.rate, getattr(run.figures.whole, kind)) for run in runs]
        points = [(rate, getattr(values, name) * 1e3) for rate, values in found if values is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker="o", label=label)
    axes.axhline(deadline_seconds * 1e3, color=INK, linestyle="--", linewidth=1, label="deadline")
    axes.set(xlabel="offered requests/s", ylabel="milliseconds", xscale="log", yscale="log")
    rates = [run.figures.whole.rate for run in runs]
    axes.set_xticks(rates, [f"{rate:,.0f}" for rate in rates], minor=False)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    _legend(axes)


def _legend(axes: "Axes") -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def _undated(path: Path) -> dict[str, Any]:
    return {"Date": None} if path.suffix == ".svg" else {}
