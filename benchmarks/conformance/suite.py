"""All checks against one server."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.conformance.behaviours import behaviour_checks, ending_checks
from benchmarks.conformance.finding import Check, Finding, Subject, Verdict, failed
from benchmarks.conformance.under_load import Scale, load_checks
from benchmarks.conformance.wire_checks import wire_checks
from benchmarks.errors import BenchError
from benchmarks.peers.environment import python_of
from benchmarks.peers.measure import Site, body_of
from benchmarks.peers.peer import Peer, Place, Workload, free_port
from benchmarks.peers.query import Query
from benchmarks.peers.running import run_to_end, running
from benchmarks.target import Target

WORKLOAD: Workload = "inline"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One check of one server."""

    group: str
    name: str
    verdict: Verdict
    seen: str


def all_checks(scale: Scale) -> list[Check]:
    """In an order that leaves the server running until the last ones stop it."""
    return [*wire_checks(), *behaviour_checks(), *load_checks(scale), *ending_checks()]


def examine(peer: Peer, queries: Sequence[Query], site: Site, checks: Sequence[Check], say: Say) -> Iterator[Row]:
    """Start `peer` and run `checks` in their order; raises NotMeasured when it does not come up."""
    python = python_of(peer, site.build / peer.name)
    scratch = site.build / "scratch" / f"{peer.name}-conformance"
    scratch.mkdir(parents=True, exist_ok=True)
    place = Place(python, free_port(), WORKLOAD, site.bundle, site.model, scratch)
    if peer.prepare is not None:
        run_to_end(peer.prepare(place), scratch / "prepare.log")
    target = Target("127.0.0.1", place.port, peer.paths[WORKLOAD], tls=False)
    bodies = [body_of(peer, query, WORKLOAD).json for query in queries]
    with running(peer.launch(place), scratch / "server.log") as server:
        server.wait_for(Target(target.host, target.port, peer.ready, target.tls))
        subject = Subject(peer, place, target, list(queries), bodies, server)
        for check in checks:
            say(check.name)
            finding = run(check, subject)
            yield Row(check.group, check.name, finding.verdict, finding.seen)


def run(check: Check, subject: Subject) -> Finding:
    """A server that cannot be reached, or answers wrong, has failed the check."""
    try:
        return check.run(subject)
    except (BenchError, OSError) as error:
        return failed(str(error) or type(error).__name__)
