"""`python -m benchmarks.peers`: the side-by-side run."""

from benchmarks.peers.cli import peers

if __name__ == "__main__":
    peers()
