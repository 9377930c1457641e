"""LitServe: FastAPI in one process, the model in another, batches between them.

One API server and one worker, its ZeroMQ queue (`fast_queue`, what its makers advise for many small requests), up to 64
requests a batch, gathered for 1 ms at most. Without that wait it merges what is there, but looks for it in a loop that
never sleeps, on one of two cores.
"""

from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place, plain_body, plain_scores, server_environment

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    command = [str(place.python), str(FOLDER / "server.py"), str(place.port)]
    return Launch(command, server_environment(place), place.scratch)


PEER = Peer(
    name="litserve",
    title="LitServe",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/health",
    paths={"inline": "/predict", "catalog": "/predict"},
    body=plain_body,
    scores=plain_scores,
)
