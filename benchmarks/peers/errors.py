"""Why a server is not measured: a line of the table, and the next one has its turn."""

from benchmarks.errors import BenchError


class NotMeasured(BenchError):
    """A server that cannot be measured with a workload; the message says why."""


class NotInstalled(NotMeasured):
    """Its requirements cannot be installed."""


class NotStarted(NotMeasured):
    """It did not answer a first request in time, or it ended."""


class WrongAnswer(NotMeasured):
    """Its scores are not those of Booster.predict."""
