"""What Frontrow sets out to reach beside its peers, and whether a run reached it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.peers.measure import Figures, Outcome

INLINE_OVER_BEST, INLINE_OVER_FASTAPI, CATALOG_OVER_BEST = 5.0, 7.0, 15.0
INLINE_P50, CATALOG_P50 = 0.001, 0.0005
HALF_LOAD_P99 = 0.005
SHARE_OF_ECHO = 0.4
MANY_P50 = {1_000: 0.002, 5_000: 0.008}
USUAL_CANDIDATES = 50


@dataclass(frozen=True)
class Verdict:
    """A target in words, what was measured, and whether that is enough."""

    target: str
    measured: str
    met: bool


class Results:
    """Outcomes of a run, by who and what."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes

    def figures(self, peer: str, workload: str, candidates: int = USUAL_CANDIDATES) -> Figures | None:
        wanted = (peer, workload, candidates)
        found = (each for each in self.outcomes if (each.peer, each.workload, each.candidates) == wanted)
        return next((each.figures for each in found), None)

    def best_peer(self, workload: str) -> tuple[str, Figures] | None:
        """The peer that answers most, of those that were measured."""
        measured = [
            (each.peer, each.figures)
            for each in self.outcomes
            if each.workload == workload and each.figures is not None and each.peer not in {"frontrow", "echo"}
        ]
        return max(measured, key=lambda peer: peer[1].capacity, default=None)


def verdicts(results: Results) -> list[Verdict]:
    """Every target that the run has figures for."""
    inline, catalog = (results.figures("frontrow", workload) for workload in ("inline", "catalog"))
    found: list[Verdict] = []
    if inline is not None:
        found += _against_best(results, "inline", inline, INLINE_OVER_BEST)
        found += _against(results.figures("fastapi", "inline"), "inline", "FastAPI", inline, INLINE_OVER_FASTAPI)
        found += _latencies("inline", inline, INLINE_P50)
    if catalog is not None:
        found += _against_best(results, "catalog", catalog, CATALOG_OVER_BEST)
        found += _against_echo(results, catalog)
        found += _latencies("catalog", catalog, CATALOG_P50)
    return found + list(_many(results))


def _against_best(results: Results, workload: str, own: Figures, times: float) -> Iterator[Verdict]:
    best = results.best_peer(workload)
    if best is not None:
        yield from _against(best[1], workload, f"the best peer ({best[0]})", own, times)


def _against(other: Figures | None, workload: str, name: str, own: Figures, times: float) -> Iterator[Verdict]:
    if other is not None:
        ratio = own.capacity / other.capacity
        yield Verdict(f"{workload}: {times:g} times the answers of {name}", f"{ratio:.1f} times", ratio >= times)


def _against_echo(results: Results, own: Figures) -> Iterator[Verdict]:
    echo = results.figures("echo", "catalog")
    if echo is not None:
        share = own.capacity / echo.capacity
        yield Verdict(f"catalog: {SHARE_OF_ECHO:.0%} of a bare echo", f"{share:.0%}", share >= SHARE_OF_ECHO)


def _latencies(workload: str, own: Figures, p50: float) -> Iterator[Verdict]:
    yield from _median(f"{workload}: p50 of one caller", own, p50)
    if own.open is not None:
        measured = f"{own.open.p99 * 1e3:.1f} ms"
        target = f"{workload}: p99 at half of its capacity within {HALF_LOAD_P99 * 1e3:g} ms"
        yield Verdict(target, measured, own.open.p99 <= HALF_LOAD_P99)


def _many(results: Results) -> Iterator[Verdict]:
    for candidates, p50 in MANY_P50.items():
        own = results.figures("frontrow", "catalog", candidates)
        if own is not None:
            yield from _median(f"catalog: p50 of one caller with {candidates:,} candidates", own, p50)


def _median(name: str, own: Figures, p50: float) -> Iterator[Verdict]:
    for run in own.closed:
        if run.connections == 1:
            yield Verdict(f"{name} within {p50 * 1e3:g} ms", f"{run.p50 * 1e3:.2f} ms", run.p50 <= p50)
