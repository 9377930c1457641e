"""mosec: an HTTP server in Rust in front of a Python worker, which gets whole batches over a socket.

One worker, as every peer has one scoring process; up to 64 requests a batch, gathered for 1 ms at most: its default
of 10 ms would be seven eighths of the latency of a lone caller. JSON is its default wire format.
"""

from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place, plain_body, plain_scores, server_environment

FOLDER = Path(__file__).parent


def launch(place: Place) -> Launch:
    options = ["--address", "127.0.0.1", "--port", str(place.port), "--timeout", "10000", "--log-level", "warning"]
    return Launch([str(place.python), str(FOLDER / "server.py"), *options], server_environment(place), place.scratch)


PEER = Peer(
    name="mosec",
    title="mosec",
    requirements=FOLDER / "requirements.txt",
    launch=launch,
    ready="/metrics",
    paths={"inline": "/inference", "catalog": "/inference"},
    body=plain_body,
    scores=plain_scores,
)
