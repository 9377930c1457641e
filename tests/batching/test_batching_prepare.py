"""A preparation for a whole batch, awaited beside the scoring of the batch before it."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from batching_world import World

from batching import BatchOutcome, DeadlineOutOfReach, Expired, Outcome, ScoringFailed, WrongLength


class Store:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.shut = True

    async def prepare(self, requests):
        self.asked.append([request.call.number for request in requests])
        if self.shut:
            self.gates.append(asyncio.get_running_loop().create_future())
            await self.gates[-1]
        if any(request.call.poison for request in requests):
            raise ConnectionError("the store is gone")
        return requests

    def open_all(self) -> None:
        """Answer everything that was asked until now."""
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)

    def open(self, number: int = -1) -> None:
        self.gates[number].set_result(None)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def world(store: Store, make_world: Callable[..., World]) -> Iterator[World]:
    world = make_world(prepare=store.prepare)
    yield world
    store.shut = False
    store.open_all()
    world.settle()


def test_a_batch_is_prepared_in_one_call_before_it_is_scored(world: World, store: Store):
    calls = [world.submit_later(2) for _ in range(3)]
    world.settle()
    assert store.asked == [[0, 1, 2]]
    assert not world.executor.busy
    world.advance(0.004)
    store.open()
    world.settle()
    world.finish_all()
    for call in calls:
        assert call.answer.result == world.expected(call)
    assert world.reports[-1].prepare_seconds == pytest.approx(0.004)


def test_the_next_batch_is_prepared_while_one_is_scored_and_others_gather(world: World, store: Store):
    world.submit(1)
    store.open()
    world.settle()
    assert world.executor.busy
    world.submit(1)
    assert store.asked == [[0], [1]]
    for _ in range(3):
        world.submit(1)
    store.open()
    world.settle()
    assert len(store.asked) == 2  # one batch ahead is enough: the rest gathers
    world.finish()
    assert world.dispatched() == [1]
    assert store.asked[2] == [2, 3, 4]
    store.open()
    world.finish_all()
    world.finish_all()
    assert [call.outcome for call in world.calls] == [Outcome.OK] * 5


def test_rows_in_preparation_are_in_flight_and_delay_others_in_the_prediction(world: World):
    world.submit(16)
    stats = world.stats()
    assert (stats.waiting_rows, stats.in_flight_rows, stats.in_flight_requests) == (0, 16, 1)
    assert world.batcher.stats().drain_seconds == pytest.approx(world.cost.seconds(16))


def test_a_preparation_that_fails_is_repeated_for_each_alone_so_only_the_culprit_fails(world: World, store: Store):
    calls = [world.submit_later(1, poison=number == 1) for number in range(3)]
    world.settle()
    store.open()
    world.settle()
    assert store.asked[1:] == [[0], [1], [2]]
    for number in (1, 2, 3):
        store.open(number)
    world.settle()
    calls[1].poison = False  # it is not scored, so this is not what makes it fail
    world.finish_all()
    assert [call.outcome for call in calls] == [Outcome.OK, Outcome.ERROR, Outcome.OK]
    assert isinstance(calls[1].error.__cause__, ConnectionError)


def test_a_batch_of_which_nothing_could_be_prepared_is_not_scored(world: World, store: Store):
    call = world.submit(1, poison=True)
    store.open()
    world.settle()
    assert isinstance(call.error, ScoringFailed)
    assert not world.batches
    assert world.reports[-1].outcome is BatchOutcome.EMPTY
    after = world.submit(1)
    store.open()
    world.settle()
    world.finish_all()
    assert after.outcome is Outcome.OK


def test_a_preparation_of_the_wrong_length_fails_its_batch(make_world):
    async def lose_one(requests):
        return requests[1:]

    world = make_world(prepare=lose_one)
    calls = [world.submit_later(1) for _ in range(3)]
    world.settle()
    assert all(isinstance(call.error, WrongLength) for call in calls)


def test_whoever_leaves_or_expires_in_preparation_is_not_scored(world: World, store: Store):
    leaves, expires = world.submit_later(1), world.submit_later(1, timeout=0.01)
    stays = world.submit_later(1)
    world.settle()
    world.leave(leaves)
    world.advance(0.02)
    assert isinstance(expires.error, Expired)
    store.open()
    world.settle()
    world.finish_all()
    assert world.dispatched() == [stays.number]
    assert stays.outcome is Outcome.OK


def test_whoever_leaves_after_the_preparation_and_before_the_scoring_is_not_scored(world: World, store: Store):
    world.submit(1)
    store.open()
    world.settle()
    leaves, stays = world.submit_later(1), world.submit_later(1)
    world.settle()
    store.open()
    world.settle()
    world.leave(leaves)
    world.finish()
    assert world.dispatched() == [stays.number]
    world.finish_all()
    assert stays.outcome is Outcome.OK


def test_the_time_of_preparations_is_learned_and_part_of_the_prediction(world: World, store: Store):
    for _ in range(30):
        world.submit(1)
        world.advance(0.020)
        store.open()
        world.settle()
        world.finish_all()
    world.submit(1)
    assert isinstance(world.submit(1, timeout=0.015).error, DeadlineOutOfReach)
    assert world.submit(1, timeout=0.030).pending


def test_pieces_of_a_large_request_are_prepared_as_requests_of_their_own(world: World, store: Store):
    large = world.submit(40)
    while large.pending:
        store.open_all()
        world.settle()
        if world.executor.busy:
            world.finish()
    assert store.asked == [[large.number]] * 3
    assert large.answer.result == world.expected(large)


def test_pieces_for_an_old_scorer_without_preparation_wait_their_turn_when_the_new_one_has_one(
    make_world, store: Store
):
    world = make_world()
    large = world.submit(40)
    world.batcher.swap("control", world.lane("control", prepare=store.prepare))
    after = world.submit(2)
    while large.pending or after.pending:
        store.open_all()
        world.settle()
        world.finish_all()
    assert large.answer.result == world.expected(large, version=1)
    assert after.answer.result == world.expected(after, version=3)
    assert store.asked == [[after.number]]


def test_drain_waits_for_a_batch_in_preparation(world: World, store: Store):
    call = world.submit(1)
    drained = world.loop.create_task(world.batcher.drain())
    world.settle()
    assert not drained.done()
    store.open()
    world.settle()
    world.finish_all()
    assert drained.done()
    assert call.outcome is Outcome.OK


def test_callers_are_told_when_the_loop_ends_a_preparation(world: World):
    call = world.submit(1)
    for task in asyncio.all_tasks(world.loop) - {call.task}:
        task.cancel()
    world.settle()
    assert isinstance(call.error, ScoringFailed)
    assert isinstance(call.error.__cause__, asyncio.CancelledError)
