"""Scoring a batch so that whatever its scorer does, every request in it gets its own answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """In the place of a result: what the scorer raised for this request."""

    error: BaseException


class Miscount(NamedTuple):
    """In the place of all results: the scorer gave `got` of them for `expected` requests."""

    expected: int
    got: int


Score = Callable[[Sequence[Any]], Sequence[Any]]
Prepare = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


def attempt(score: Score, requests: Sequence[Any]) -> list[Any] | Failure | Miscount:
    """Score all at once. Never raises: whatever a scorer raises, it must not end the thread that runs it."""
    try:
        results = list(score(requests))
    except BaseException as error:  # noqa: BLE001 - SystemExit of a model is that model's failure, too
        return Failure(error)
    return results if len(results) == len(requests) else Miscount(len(requests), len(results))


def take_apart(score: Score, requests: Sequence[Any]) -> list[Any]:
    """The results of requests that failed together: each its own result, or a `Failure` or `Miscount` of its own.

    Halves are scored again until those that fail are found: for one culprit among k requests about 2 log2(k) more
    calls and never more than k. Where both halves fail the rest is scored one by one, so that whatever fails, k + 2
    more calls are never exceeded, and no request is scored more than log2(k) + 1 more times.
    """
    if len(requests) <= 4:
        return _one_by_one(score, requests)
    middle = len(requests) // 2
    halves = requests[:middle], requests[middle:]
    answers = [attempt(score, half) for half in halves]
    failed = [isinstance(answer, Failure | Miscount) for answer in answers]
    if all(failed):
        return _one_by_one(score, requests)
    return [
        result
        for half, answer, bad in zip(halves, answers, failed, strict=True)
        for result in (take_apart(score, half) if bad else answer)
    ]


def _one_by_one(score: Score, requests: Sequence[Any]) -> list[Any]:
    answers = (attempt(score, [request]) for request in requests)
    return [answer if isinstance(answer, Failure | Miscount) else answer[0] for answer in answers]


async def prepare_all(prepare: Prepare, requests: Sequence[Any]) -> list[Any]:
    """What a batch needs before it is scored: for each request its own, or a `Failure` or `Miscount` of its own.

    A preparation that fails is repeated once for each request alone, all at once: one more round trip, k more calls.
    """
    answer = await _attempt_prepare(prepare, requests)
    if isinstance(answer, Miscount):
        return [answer] * len(requests)
    if not isinstance(answer, Failure):
        return answer
    if len(requests) == 1:
        return [answer]
    answers = await asyncio.gather(*(_attempt_prepare(prepare, [request]) for request in requests))
    return [answer if isinstance(answer, Failure | Miscount) else answer[0] for answer in answers]


async def _attempt_prepare(prepare: Prepare, requests: Sequence[Any]) -> list[Any] | Failure | Miscount:
    try:
        prepared = list(await prepare(requests))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is its requests' failure
        return Failure(error)
    return prepared if len(prepared) == len(requests) else Miscount(len(requests), len(prepared))
