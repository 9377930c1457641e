"""What the benchmark has to know of a server: how it is started, asked and understood."""

import math
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.peers.query import Floats, Query

Workload = Literal["inline", "catalog"]
HERE = Path(__file__).parent
HOUSE = HERE.parents[1]


@dataclass(frozen=True)
class Place:
    """Where a server runs: its environment's Python, a free port, and what it loads.

    `bundle` is Frontrow's, `model` the folder that `write_for_peers` made of it, `scratch` the server's own folder.
    """

    python: Path
    port: int
    workload: Workload
    bundle: Path
    model: Path
    scratch: Path

    def command(self, name: str) -> str:
        """The path of a command of the server's environment."""
        return str(self.python.with_name(name))


@dataclass(frozen=True)
class Launch:
    """A command with its environment; the folder is where it runs."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = HOUSE


@dataclass(frozen=True)
class Peer:
    """A server of the same model.

    `requirements`: its locked environment, or None for Frontrow's own; `ready`: the path that answers 200 when it is;
    `body`: the JSON to send to `paths`; `scores`: one a candidate in the order of the request, from the JSON of an
    answer; `prepare`: what runs to its end before the start, untimed; `deadline`: headers that say how many seconds a
    caller waits, None where there is no such thing.
    """

    name: str
    title: str
    requirements: Path | None
    launch: Callable[[Place], Launch]
    ready: str
    paths: Mapping[Workload, str]
    body: Callable[[Query, Workload], Any]
    scores: Callable[[Any, Query], Sequence[float]]
    prepare: Callable[[Place], Launch] | None = None
    deadline: Callable[[float], Mapping[str, str]] | None = None


def plain_body(query: Query, workload: Workload) -> dict[str, Any]:
    """The leanest JSON for a server whose protocol is free: numbers only, no names, categories as their codes."""
    if workload == "inline":
        return {"rows": [_numbers(row) for row in query.rows]}
    return {"context": _numbers(query.context_row), "ids": list(query.ids)}


def plain_scores(answer: Any, _query: Query) -> Sequence[float]:
    """One score a candidate, in the order of the request."""
    scores: Sequence[float] = answer["scores"]
    return scores


def _numbers(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def server_environment(place: Place) -> dict[str, str]:
    """What every peer's server needs to find `reference_model` and the model; nobody phones home."""
    return {
        "PEER_MODEL": str(place.model),
        "PYTHONPATH": str(HERE / "model"),
        "PATH": f"{place.python.parent}{os.pathsep}{os.environ['PATH']}",
        "DO_NOT_TRACK": "1",
    }


OWN_PYTHON = Path(sys.executable)
