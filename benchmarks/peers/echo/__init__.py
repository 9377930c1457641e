"""A bare ASGI application that sends back what it got: the least that any service on uvicorn costs.

One uvicorn process of Frontrow's environment, with uvloop and httptools, without access log, asked with Frontrow's
bodies.
"""

from pathlib import Path

from benchmarks.peers import frontrow
from benchmarks.peers.peer import OWN_PYTHON, Launch, Peer, Place
from benchmarks.peers.query import Query

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    command = [str(OWN_PYTHON), "-m", "uvicorn", "server:echo", "--app-dir", str(FOLDER)]
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--no-access-log", "--log-level", "warning"]
    return Launch([*command, "--lifespan", "off", *options])


def scores(answer: object, query: Query) -> list[float]:
    """Take what was sent as the right answer."""
    return query.scores.tolist() if answer == frontrow.body(query, "catalog") else []


PEER = Peer(
    name="echo",
    title="bare echo",
    requirements=None,
    launch=launch,
    ready="/",
    paths={"inline": "/", "catalog": "/"},
    body=frontrow.body,
    scores=scores,
)
