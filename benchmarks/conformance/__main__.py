"""`python -m benchmarks.conformance`: how servers bear bad callers."""

from benchmarks.conformance.cli import conformance

if __name__ == "__main__":
    conformance()
