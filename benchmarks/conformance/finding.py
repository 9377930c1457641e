"""What a check found."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.conformance.attacks import Ordinary
from benchmarks.peers.peer import Peer, Place
from benchmarks.peers.query import Query
from benchmarks.peers.running import Server
from benchmarks.target import Answer, Target


@dataclass(frozen=True)
class Finding:
    """Whether a check passed, and what was seen."""

    passed: bool
    seen: str


@dataclass(frozen=True)
class Subject:
    """A running server under test: how it is asked, what it is to answer, and its processes."""

    peer: Peer
    place: Place
    target: Target
    queries: list[Query]
    bodies: list[bytes]
    server: Server

    def ask(self, number: int) -> Answer:
        """Ask question `number`; raises Unreachable."""
        return self.send(self.bodies[number])

    def send(self, body: bytes) -> Answer:
        return self.target.request("POST", self.target.path, body, {"Content-Type": "application/json"})

    @property
    def ordinary(self) -> Ordinary:
        return Ordinary(self.target, self.bodies[0])


@dataclass(frozen=True)
class Check:
    """One row of the table."""

    group: str
    name: str
    run: Callable[[Subject], Finding]


def passed(seen: str) -> Finding:
    return Finding(passed=True, seen=seen)


def failed(seen: str) -> Finding:
    return Finding(passed=False, seen=seen)
