"""What a person can do something about."""


class BenchError(Exception):
    """The measurement cannot be made; the message says in one line what to change."""


class BadTarget(BenchError):
    """The URL is not one that can be driven."""


class BadSchedule(BenchError):
    """The rates, loads or the profile cannot be read."""


class BadBodies(BenchError):
    """There is nothing to send, or what was given is not JSON."""


class Unreachable(BenchError):
    """Nobody answers at the URL."""


class Unanswered(BenchError):
    """The service is there, but does not answer a single request of this kind with 2xx."""
