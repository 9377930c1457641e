"""MLServer: Open Inference Protocol v2 around its own LightGBM runtime, and around a small runtime for ids.

*inline* is `mlserver_lightgbm.LightGBMModel` as it comes, asked with one FP64 tensor; *catalog* is a small runtime that
holds the array. Both run in the server's own process (`parallel_workers` 0): a second process costs each request two
hops. Adaptive batching is on: up to 64 requests, gathered for 1 ms at most. Debug mode (and with it the access log),
compression and the metrics port are off.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Launch, Peer, Place, Workload, free_port, plain_body, server_environment
from benchmarks.peers.query import Query

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    settings = {
        "MLSERVER_HTTP_PORT": str(place.port),
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_MODEL_URI": str(place.model / "model.lgb"),
    }
    command = [place.command("mlserver"), "start", str(FOLDER)]
    return Launch(command, server_environment(place) | settings, place.scratch)


def body(query: Query, workload: Workload) -> Any:
    plain = plain_body(query, workload)
    if workload == "inline":
        return {"inputs": [_tensor("rows", plain["rows"], "FP64")]}
    return {"inputs": [_tensor("context", [plain["context"]], "FP64"), _tensor("ids", [plain["ids"]], "BYTES")]}


def _tensor(name: str, rows: Sequence[Sequence[Any]], datatype: str) -> Any:
    flat = [value for row in rows for value in row]
    return {"name": name, "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": flat}


def scores(answer: Any, _query: Query) -> Sequence[float]:
    found: Sequence[float] = answer["outputs"][0]["data"]
    return found


PEER = Peer(
    name="mlserver",
    title="MLServer",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/v2/health/ready",
    paths={"inline": "/v2/models/inline/infer", "catalog": "/v2/models/catalog/infer"},
    body=body,
    scores=scores,
)
