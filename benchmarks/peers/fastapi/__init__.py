"""A plain FastAPI service around LightGBM: what a user would write, and the only peer here without batching.

Typed bodies and answers (pydantic) as FastAPI's tutorial has them; routes are plain functions, which FastAPI runs on
its threads, so that the event loop stays free while LightGBM scores. One uvicorn process with uvloop and httptools,
no access log. There is no batching in FastAPI to turn on.
"""

from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place, plain_body, plain_scores, server_environment

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    command = [str(place.python), "-m", "uvicorn", "server:app", "--app-dir", str(FOLDER)]
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--no-access-log", "--log-level", "warning"]
    return Launch([*command, *options], server_environment(place), place.scratch)


PEER = Peer(
    name="fastapi",
    title="FastAPI",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/healthz",
    paths={"inline": "/inline", "catalog": "/catalog"},
    body=plain_body,
    scores=plain_scores,
)
