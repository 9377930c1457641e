"""The comparison as a picture: how many answers a second each server gives, one panel a workload."""

from pathlib import Path

from benchmarks.peers.report import Comparison
from benchmarks.peers.targets import USUAL_CANDIDATES
from benchmarks.picture import BLUE, GREEN, STYLE

PANEL_WIDTH, BAR_HEIGHT, MARGIN_HEIGHT = 4.2, 0.32, 1.0


def draw(comparison: Comparison, path: Path) -> None:
    """Write the SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = {workload: capacities(comparison, workload) for workload in ("inline", "catalog")}
    panels = {workload: bars for workload, bars in panels.items() if bars}
    height = MARGIN_HEIGHT + BAR_HEIGHT * max(map(len, panels.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_WIDTH * len(panels), height), layout="constrained")
        for axes, (workload, bars) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            names, values = list(bars), list(bars.values())
            colors = [GREEN if name == "Frontrow" else BLUE for name in names]
            drawn = axes.barh(names, values, color=colors)
            axes.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=3)
            axes.set(title=f"{workload}: answers a second", xlim=(0, 1.2 * max(values)))
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
        figure.savefig(path, transparent=True, metadata={"Date": None})


def capacities(comparison: Comparison, workload: str) -> dict[str, float]:
    """Answers a second by the servers' names, the most first."""
    found = {
        comparison.titles[each.peer]: each.figures.capacity
        for each in comparison.outcomes
        if each.figures is not None
        and (each.workload, each.candidates) == (workload, USUAL_CANDIDATES)
        and each.peer != "echo"
    }
    return dict(sorted(found.items(), key=lambda bar: -bar[1]))
