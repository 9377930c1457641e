"""Rounds of the same turns, so that no server is judged by one moment of a machine whose speed changes."""

from collections.abc import Sequence
from statistics import median
from typing import TypeVar

from benchmarks.peers.measure import Figures, Outcome

T = TypeVar("T")


def middle(outcomes: Sequence[Outcome]) -> Outcome:
    """The middle of what the rounds measured of one server with one workload, each figure by itself.

    Of a closed loop it is the run with the middle rate, of an open loop the one with the middle p99; of two in the
    middle the worse. Without figures is who has none of any round, for the first reason.
    """
    found = [outcome.figures for outcome in outcomes if outcome.figures is not None]
    first = outcomes[0]
    if not found:
        return first
    return Outcome(first.peer, first.workload, first.candidates, _middle_of(found))


def _middle_of(rounds: Sequence[Figures]) -> Figures:
    loops = zip(*(figures.closed for figures in rounds), strict=True)
    half = [figures.open for figures in rounds if figures.open is not None]
    return Figures(
        median(figures.start_seconds for figures in rounds),
        [_worse_middle(sorted(runs, key=lambda run: -run.per_second)) for runs in loops],
        _worse_middle(sorted(half, key=lambda run: run.p99)) if half else None,
        median(figures.cpu_seconds for figures in rounds),
        round(median(figures.memory_bytes for figures in rounds)),
    )


def _worse_middle(best_first: Sequence[T]) -> T:
    return best_first[len(best_first) // 2]
