"""Ray Serve: an HTTP proxy in one process, a replica with `@serve.batch` in another.

One replica; up to 64 requests a batch, gathered for 1 ms at most instead of its default of 10 ms; enough requests under
way at the replica for two batches. The replica takes Starlette's request: FastAPI's ingress would cost it more. No
dashboard, no access log.
"""

from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place, plain_body, plain_scores, server_environment

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    private = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "RAY_DEDUP_LOGS": "0"}
    command = [str(place.python), str(FOLDER / "server.py"), str(place.port)]
    return Launch(command, server_environment(place) | private, place.scratch)


PEER = Peer(
    name="ray",
    title="Ray Serve",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/-/healthz",
    paths={"inline": "/", "catalog": "/"},
    body=plain_body,
    scores=plain_scores,
    deadline=lambda seconds: {"X-Request-Timeout-Seconds": f"{seconds:g}"},
)
