"""Everything that is not a ranking, named after what happened.

`NoRanking` is what a page can live with: it shows its own order. `Rejected` is a mistake of the caller.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request, and where it stands."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457). From whoever sends none, `type` is `about:blank` and `title` the status line's."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None
    faults: tuple[Fault, ...]


class FrontrowError(Exception):
    """Whatever this package raises. `problem` is what was answered, if anything was."""

    problem: Problem | None = None


class Rejected(FrontrowError):
    """The request is wrong and would be wrong again (4xx, 501). `problem.faults` name each place."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem: Problem = problem


class NoRanking(FrontrowError):
    """There is no answer to a request that may be right.

    repeatable: whether the same may be asked again without harm. retry_after_seconds: how long it should rest first.
    """

    repeatable = False
    retry_after_seconds = 0.0


class DeadlinePassed(NoRanking):
    """It took longer than the caller waits; of a 504 the service says so itself."""

    def __init__(self, detail: str, problem: Problem | None = None) -> None:
        super().__init__(detail)
        self.problem = problem


class Overloaded(NoRanking):
    """Refused at the door (503): nothing was queued or kept. Without a `Retry-After` nobody asks for another try."""

    def __init__(self, problem: Problem, retry_after_seconds: float | None) -> None:
        when = "" if retry_after_seconds is None else f"; room is expected in {retry_after_seconds:g} s"
        super().__init__(f"{problem.detail or problem.title}{when}")
        self.problem: Problem = problem
        self.repeatable = retry_after_seconds is not None
        self.retry_after_seconds = retry_after_seconds or 0.0


class ServiceFailed(NoRanking):
    """A defect of the service (500), or a proxy without one (502). Its log has the same `problem.request_id`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem: Problem = problem


class Unreachable(NoRanking):
    """No connection, or one that ended. Repeatable if nothing of an answer had come: what is asked changes nothing."""

    def __init__(self, detail: str, *, repeatable: bool) -> None:
        super().__init__(detail)
        self.repeatable = repeatable


class UnreadableAnswer(NoRanking):
    """Somebody answered, but not as Frontrow does."""
