"""Whatever a scorer does, each request gets its own answer, and the next batch is scored."""

import gc
import math
import weakref

import pytest
from batching_world import FOR_EVER, Call, Rows, World, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from batching import BatchingError, BatchOutcome, Expired, Outcome, Priority, ScoringFailed, WrongLength
from batching.isolation import Failure, Miscount, attempt, take_apart


class Scorer:
    """Doubles numbers, raises when it sees one of `poison`, and counts."""

    def __init__(self, poison: frozenset[int]) -> None:
        self.poison = poison
        self.calls = 0
        self.times = [0] * 2000

    def __call__(self, requests):
        self.calls += 1
        for request in requests:
            self.times[request] += 1
        if self.poison & set(requests):
            raise ValueError(requests)
        return [2 * request for request in requests]


def test_one_poisoned_request_in_a_thousand_fails_alone_and_cheaply():
    scorer = Scorer(frozenset({617}))
    results = take_apart(scorer, range(1000))
    assert isinstance(results[617], Failure)
    assert results[617].error.args == ([617],)
    assert [result for i, result in enumerate(results) if i != 617] == [2 * i for i in range(1000) if i != 617]
    assert scorer.calls <= 2 * math.log2(1000) + 2


@settings(deadline=None)
@given(size=st.integers(2, 130), data=st.data())
def test_taking_apart_finds_exactly_the_culprits_within_its_bounds(size, data):
    poison = data.draw(st.frozensets(st.integers(0, size - 1)))
    scorer = Scorer(poison)
    results = take_apart(scorer, range(size))
    assert [isinstance(result, Failure) for result in results] == [i in poison for i in range(size)]
    assert all(results[i] == 2 * i for i in range(size) if i not in poison)
    assert scorer.calls <= size + 2
    assert max(scorer.times) <= math.log2(size) + 1
    if len(poison) == 1:
        assert scorer.calls <= size


def test_the_culprit_fails_and_the_others_get_the_results_they_would_get_alone(world: World):
    world.submit(1)
    mates = [world.submit(1, poison=number == 5) for number in range(12)]
    world.finish_all()
    for mate in mates:
        if mate.poison:
            assert isinstance(mate.error, ScoringFailed)
            assert isinstance(mate.error.__cause__, ValueError)
            assert "poisoned" in str(mate.error)
        else:
            assert mate.answer.result == world.expected(mate)
    assert world.reports[-1].outcome is BatchOutcome.TAKEN_APART
    assert world.reports[-1].failed_requests == 1


def test_whoever_comes_while_a_batch_is_taken_apart_is_told_how_long_that_may_take(world: World):
    world.submit(1)
    for number in range(16):
        world.submit(1, poison=number == 5)
    world.finish()
    world.finish()
    assert refused(world.submit(1, timeout=world.cost.seconds(16)))
    assert not refused(world.submit(1, timeout=4 * world.cost.seconds(16)))


def test_a_failure_that_is_nobodys_fault_fails_nobody(world: World):
    def out_of_memory(_):
        raise MemoryError

    world.submit(1)
    mates = [world.submit(1) for _ in range(6)]
    world.breaks.append(out_of_memory)
    world.finish_all()
    assert [mate.outcome for mate in mates] == [Outcome.OK] * 6


def test_a_lone_request_that_fails_is_not_scored_twice(world: World):
    call = world.submit(3, poison=True)
    world.finish_all()
    assert call.outcome is Outcome.ERROR
    assert len(world.batches) == 1


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException])
def test_a_scorer_that_raises_what_ends_programs_ends_only_its_batch(world: World, kind):
    def end(_):
        raise kind

    world.breaks.append(end)
    fails, works = world.submit(1), world.submit(1)
    world.finish_all()
    assert isinstance(fails.error, ScoringFailed)
    assert isinstance(fails.error.__cause__, kind)
    assert works.outcome is Outcome.OK


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3, 4]])
def test_a_result_list_of_the_wrong_length_is_an_error_for_all_of_its_batch_and_no_other(world: World, results):
    world.submit(1)
    mates = [world.submit(1) for _ in range(3)]
    world.breaks.append(lambda _: results)
    world.finish()
    world.finish()
    for mate in mates:
        assert isinstance(mate.error, WrongLength)
        assert f"3 results were due and {len(results)} came" in str(mate.error)
    assert world.reports[-1].outcome is BatchOutcome.WRONG_LENGTH
    after = world.submit(1)
    world.finish_all()
    assert after.answer.result == world.expected(after)


@pytest.mark.parametrize("results", [None, 7])
def test_results_that_are_no_list_at_all_fail(results):
    assert isinstance(attempt(lambda _: results, [1]), Failure)


def test_a_wrong_length_while_taking_apart_fails_only_that_request():
    def score(requests):
        if len(requests) > 1:
            raise ValueError
        return [] if requests == [2] else requests

    one, none, three = take_apart(score, [1, 2, 3])
    assert (one, three) == (1, 3)
    assert isinstance(none.error, Miscount)


def test_nothing_is_learned_from_a_failed_batch(world: World):
    world.submit(1)
    for number in range(4):
        world.submit(1, poison=number == 2)
    world.finish()
    before = world.stats()
    world.finish(slower=15.0)
    world.finish(slower=15.0)
    after = world.stats()
    assert (after.scale, after.spread) == (before.scale, before.spread)


def test_an_observer_that_raises_hurts_nobody_is_logged_once_and_counted(caplog, make_world):
    def observe(_):
        raise RuntimeError("metrics are down")

    world = make_world(observer=observe)
    calls = [world.submit(1) for _ in range(5)]
    world.finish_all()
    assert [call.outcome for call in calls] == [Outcome.OK] * 5
    assert world.batcher.stats().observer_errors == 2
    assert [record.message for record in caplog.records] == [
        "the observer of batches raised; further errors of it are only counted"
    ]


@pytest.mark.usefixtures("no_collector")
def test_taking_apart_leaves_nothing_to_the_garbage_collector():
    scorer = Scorer(frozenset({3, 5, 77}))
    take_apart(scorer, range(100))
    assert gc.collect() == 0


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(("kind", "seconds"), [(ScoringFailed, FOR_EVER), (Expired, 0.01)])
def test_an_error_that_was_told_stays_nowhere(world: World, kind: type[BatchingError], seconds: float):
    async def ask() -> weakref.ref[BatchingError]:
        request = Rows(Call(1, "control", 1, due_at, Priority.NORMAL, 0.0, poison=True), 0, 1)
        try:
            await world.batcher.submit("control", request, rows=1, due_at=due_at)
        except kind as error:
            return weakref.ref(error)

    world.submit(1)
    due_at = world.loop.time() + seconds
    told = world.loop.create_task(ask())
    world.advance(1.0)
    world.finish_all()
    assert told.result()() is None


def test_what_is_told_of_a_failure_is_where_it_was_raised_and_why(world: World):
    call = world.submit(1, poison=True)
    world.finish_all()
    (told,) = call.error.__notes__
    assert 'batching_world.py", line' in told
    assert told.endswith(f"{type(call.error.__cause__).__name__}: {call.error.__cause__}\n")
