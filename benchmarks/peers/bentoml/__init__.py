"""BentoML: a service with batchable APIs, whose dispatcher learns how long it pays to wait for more requests.

One worker; up to 64 requests a batch (in rows for the array, in requests for the lists), and 1 s as the latency it aims
at, so that it never drops a request for being late: the other peers do not. The rows come as a NumPy array, which
is how BentoML's documentation batches. A batchable API has one parameter, so a request with ids is a list of one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Launch, Peer, Place, Workload, plain_body, server_environment
from benchmarks.peers.query import Query

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    command = [place.command("bentoml"), "serve", "server:Ranker", "--working-dir", str(FOLDER)]
    options = ["--host", "127.0.0.1", "--port", str(place.port)]
    private = {"BENTOML_HOME": str(place.scratch), "BENTOML_DO_NOT_TRACK": "True"}
    return Launch([*command, *options], server_environment(place) | private, place.scratch)


def body(query: Query, workload: Workload) -> Any:
    plain = plain_body(query, workload)
    return plain if workload == "inline" else {"requests": [plain]}


def scores(answer: Any, query: Query) -> Sequence[float]:
    flat: Sequence[float] = answer if len(answer) == len(query.ids) else answer[0]
    return flat


PEER = Peer(
    name="bentoml",
    title="BentoML",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/readyz",
    paths={"inline": "/inline", "catalog": "/catalog"},
    body=body,
    scores=scores,
)
