"""The evidence over time, as a picture: the factors of all tests, the p99 ratio, and the traffic.

Drawn in mid tones on nothing, so that it reads on a light page and on a dark one.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from release.alignment import ARMS
from release.judge import Trial
from release.rules import FAMILIES, WINDOW_SCRAPES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK: Final = "#808080"
COLORS: Final = ("#d0534f", "#d98324", "#b59b2a", "#8d9b3f", "#7a6fd0", "#3f9d5c", "#3a9fa8", "#c060a8")
CANARY, BASELINE, P99 = "#d98324", "#4c8dd6", "#4c8dd6"
LEAST_FACTOR: Final = -3.0  # power of ten; how sure it is that the canary is *not* worse need not be seen
STYLE: Final[Any] = {
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


def draw(trial: Trial, path: Path) -> None:
    """Write what the gates saw until the verdict; the ending of `path` says SVG or PNG."""
    import matplotlib as mpl  # noqa: PLC0415 a second, which only a picture is worth
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 8), layout="constrained")
        factors, ratios, traffic = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 2])
        _draw_factors(factors, trial)
        _draw_ratios(ratios, trial)
        _draw_traffic(traffic, trial)
        figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else {})


def _minutes(trial: Trial, count: int, looks: int = 1) -> "np.typing.NDArray[np.float64]":
    return np.arange(1, count + 1) * looks * trial.evidence.rules.scrape_seconds / 60


def _draw_factors(axes: "Axes", trial: Trial) -> None:
    rules, looks = trial.evidence.rules, trial.verdict.looks
    powers = np.maximum(trial.family_factors[:, :looks] / math.log(10), LEAST_FACTOR)
    for family, power, color in zip(FAMILIES, powers, COLORS, strict=True):
        axes.plot(_minutes(trial, looks), power, color=color, label=family.name, linewidth=1.5)
    if not rules.hotfix:
        closed = looks // WINDOW_SCRAPES
        power = np.maximum(trial.window_factors[:closed] / math.log(10), LEAST_FACTOR)
        axes.plot(_minutes(trial, closed, WINDOW_SCRAPES), power, color=P99, linestyle="--", label="p99", linewidth=1.5)
    axes.axhline(math.log10(rules.factor), color=INK, linestyle=":", label=f"FAIL at {rules.factor:,.0f}")
    axes.set(ylabel="factor, power of ten", ylim=(LEAST_FACTOR - 0.2, None))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5)


def _draw_ratios(axes: "Axes", trial: Trial) -> None:
    rules, closed = trial.evidence.rules, trial.verdict.looks // WINDOW_SCRAPES
    ratio = trial.windows.ratio[:closed]
    finite = np.where(np.isfinite(ratio), ratio, np.nan)
    axes.plot(_minutes(trial, closed, WINDOW_SCRAPES), finite, ".", color=CANARY, label="p99, canary over baseline")
    axes.axhline(rules.p99_ratio, color=INK, linestyle=":", label=f"tolerated: {rules.p99_ratio:g}")
    axes.set(ylabel="p99 ratio")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_traffic(axes: "Axes", trial: Trial) -> None:
    rules, looks = trial.evidence.rules, trial.verdict.looks
    rates = trial.course.durations[:, :looks].sum(axis=-1) / rules.scrape_seconds
    for arm, rate, color in zip(ARMS, rates, (CANARY, BASELINE), strict=True):
        axes.plot(_minutes(trial, looks), rate, color=color, label=arm, linewidth=1.5)
    missing = np.any([gaps[1 : looks + 1] for gaps in trial.course.missing.values()], axis=0)
    for minute in _minutes(trial, looks)[missing]:
        axes.axvspan(minute - rules.scrape_seconds / 60, minute, color=INK, alpha=0.2, linewidth=0)
    label = "requests/s" if not missing.any() else "requests/s (grey: something is missing)"
    axes.set(xlabel="minutes", ylabel=label, ylim=(0, None))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
