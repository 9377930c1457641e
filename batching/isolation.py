"""Scoring a batch so that whatever its scorer does, every request in it gets its own answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from traceback import TracebackException
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """In the place of a result, or of all of them: what was raised for it, and the story of its traceback."""

    error: BaseException
    story: TracebackException


def without_frames(error: BaseException) -> Failure:
    """What was raised, and in words how it came to that. The frames that it went through are let go.

    They hold what they worked on, and so do those that called them, which is sooner or later the failure itself: a
    circle that stays, with whole requests in it, until the garbage collector comes.
    """
    story = TracebackException.from_exception(error, lookup_lines=False)
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return Failure(error, story)


class Miscount(Exception):
    """There were `got` results for `expected` requests, so nobody knows whose they are."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"{expected} results were due and {got} came")


Score = Callable[[Sequence[Any]], Sequence[Any]]
Prepare = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


def attempt(score: Score, requests: Sequence[Any]) -> list[Any] | Failure:
    """Score all at once. Never raises: whatever a scorer raises, it must not end the thread that runs it."""
    try:
        return _counted(requests, score(requests))
    except BaseException as error:  # noqa: BLE001 - SystemExit of a model is that model's failure, too
        return without_frames(error)


def _counted(requests: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    counted = list(results)
    if len(counted) != len(requests):
        raise Miscount(len(requests), len(counted))
    return counted


def take_apart(score: Score, requests: Sequence[Any]) -> list[Any]:
    """The results of requests that failed together: each its own result, or a `Failure` of its own.

    Halves are scored again until those that fail are found: for one culprit among k requests about 2 log2(k) more
    calls and never more than k. Where both halves fail the rest is scored one by one, so that whatever fails, k + 2
    more calls are never exceeded, and no request is scored more than log2(k) + 1 more times.
    """
    if len(requests) <= 4:
        return _one_by_one(score, requests)
    middle = len(requests) // 2
    halves = requests[:middle], requests[middle:]
    answers = [attempt(score, half) for half in halves]
    failed = [isinstance(answer, Failure) for answer in answers]
    if all(failed):
        return _one_by_one(score, requests)
    return [
        result
        for half, answer, bad in zip(halves, answers, failed, strict=True)
        for result in (take_apart(score, half) if bad else answer)
    ]


def _one_by_one(score: Score, requests: Sequence[Any]) -> list[Any]:
    answers = (attempt(score, [request]) for request in requests)
    return [answer if isinstance(answer, Failure) else answer[0] for answer in answers]


async def prepare_all(prepare: Prepare, requests: Sequence[Any]) -> list[Any]:
    """What a batch needs before it is scored: for each request its own, or a `Failure` of its own.

    A preparation that fails is repeated once for each request alone, all at once: one more round trip, k more calls.
    One that lost count is not: what it gave is nobody's.
    """
    answer = await _attempt_prepare(prepare, requests)
    if not isinstance(answer, Failure):
        return answer
    if len(requests) == 1 or isinstance(answer.error, Miscount):
        return [answer] * len(requests)
    answers = await asyncio.gather(*(_attempt_prepare(prepare, [request]) for request in requests))
    return [answer if isinstance(answer, Failure) else answer[0] for answer in answers]


async def _attempt_prepare(prepare: Prepare, requests: Sequence[Any]) -> list[Any] | Failure:
    try:
        return _counted(requests, await prepare(requests))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is its requests' failure
        return without_frames(error)
