"""Frontrow itself, as it comes: one process, the compiled engine where it proves equal, the catalog of the bundle.

These settings differ from the defaults, so that it does no less than its peers and no more: no treatment, as they have
one model; no access line a request, as theirs are off; 10 s as the deadline, as they have none or one of that order;
and no lame duck, which would only delay the next one's turn.
Its bodies are those of its callers, with names and categories as strings, its answers are ordered and have positions,
the model's version and more.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.peer import OWN_PYTHON, Launch, Peer, Place, Workload
from benchmarks.peers.query import Query

TIMEOUT_MS = 10_000
NEW = "new-"  # before an id makes one that the catalog does not know: all its features come with the request


def launch(place: Place) -> Launch:
    command = [str(OWN_PYTHON), "-m", "frontrow", "serve", "--control", str(place.bundle), "--treatment", ""]
    settings = {
        "FRONTROW_ACCESS_LOG_SHARE": "0",
        "FRONTROW_LAME_DUCK_SECONDS": "0",
        "FRONTROW_REQUEST_TIMEOUT_MS": str(TIMEOUT_MS),
    }
    return Launch([*command, "--host", "127.0.0.1", "--port", str(place.port)], settings)


def body(query: Query, workload: Workload) -> Any:
    if workload == "catalog":
        return {"context": query.context, "candidates": query.ids}
    candidates = [
        {"id": NEW + activity, "features": features}
        for activity, features in zip(query.ids, query.features, strict=True)
    ]
    return {"context": query.context, "candidates": candidates}


def scores(answer: Any, query: Query) -> Sequence[float]:
    """Put the ranking back into the order of the request."""
    found = {place["id"].removeprefix(NEW): place["score"] for place in answer["ranking"]}
    return [found[activity] for activity in query.ids]


PEER = Peer(
    name="frontrow",
    title="Frontrow",
    requirements=None,
    launch=launch,
    ready="/readyz",
    paths={"inline": "/v1/rank", "catalog": "/v1/rank"},
    body=body,
    scores=scores,
    deadline=lambda seconds: {"X-Request-Timeout-Ms": f"{1e3 * seconds:g}"},
)
