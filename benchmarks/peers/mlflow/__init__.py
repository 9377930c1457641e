"""`mlflow models serve`, MLflow's own scoring server (FastAPI) around a model that was logged with MLflow.

*inline* is the plain LightGBM flavour, asked with `inputs`, the leanest of its formats: the matrix becomes a NumPy
array and no DataFrame. *catalog* is a `PythonModel` that holds the array, asked the same way. One worker; it has no
batching to turn on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Launch, Peer, Place, Workload, plain_body, server_environment
from benchmarks.peers.query import Query

FOLDER = Path(__file__).parent


def prepare(place: Place) -> Launch:
    return Launch([str(place.python), str(FOLDER / "save.py"), place.workload], _environment(place), place.scratch)


def launch(place: Place) -> Launch:
    command = [place.command("mlflow"), "models", "serve", "--model-uri", place.workload, "--env-manager", "local"]
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"]
    return Launch([*command, *options], _environment(place), place.scratch)


def _environment(place: Place) -> dict[str, str]:
    private = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    return server_environment(place) | private


def body(query: Query, workload: Workload) -> Any:
    plain = plain_body(query, workload)
    return {"inputs": plain["rows"] if workload == "inline" else plain}


def scores(answer: Any, _query: Query) -> Sequence[float]:
    found: Sequence[float] = answer["predictions"]
    return found


PEER = Peer(
    name="mlflow",
    title="mlflow models serve",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    prepare=prepare,
    ready="/ping",
    paths={"inline": "/invocations", "catalog": "/invocations"},
    body=body,
    scores=scores,
)
