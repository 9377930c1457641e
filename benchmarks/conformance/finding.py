"""What a check found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.conformance.attacks import Ordinary
from benchmarks.peers.peer import Peer, Place
from benchmarks.peers.query import Query
from benchmarks.peers.running import Server
from benchmarks.target import Answer, Target

Verdict = Literal["passed", "failed", "not offered"]
"""`not offered`: the server has no such thing, which is neither right nor wrong; it never counts as passed."""


@dataclass(frozen=True)
class Finding:
    """What was seen, and what that is worth."""

    verdict: Verdict
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


def judged(seen: str, *, right: bool) -> Finding:
    return Finding("passed" if right else "failed", seen)


def failed(seen: str) -> Finding:
    return Finding("failed", seen)
