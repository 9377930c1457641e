"""A caller may leave at any moment. It costs nobody else anything, and itself no scoring."""

import asyncio

import pytest
from batching_world import World

from batching import Outcome


def test_a_caller_that_leaves_while_waiting_is_never_scored(world: World):
    first = world.submit(5)
    waits = world.submit(3)
    stays = world.submit(4)
    world.leave(waits)
    world.finish_all()
    assert waits.outcome is Outcome.CANCELLED
    assert not waits.scored
    assert first.answer.result == world.expected(first)
    assert stays.answer.result == world.expected(stays)


def test_rows_of_a_caller_that_leaves_are_not_waiting_any_more(world: World):
    world.submit(5)
    waits = world.submit(3)
    world.submit(4)
    assert world.stats().waiting_rows == 7
    world.leave(waits)
    assert world.stats().waiting_rows == 4
    assert world.stats().waiting_requests == 1


def test_a_caller_that_leaves_costs_its_batch_mates_nothing(world: World):
    world.submit(1)
    mates = [world.submit(2) for _ in range(3)]
    world.finish()
    assert world.dispatched() == [mate.number for mate in mates]
    world.leave(mates[1])
    world.finish()
    assert mates[1].outcome is Outcome.CANCELLED
    for mate in (mates[0], mates[2]):
        assert mate.answer.result == world.expected(mate)


def test_callers_that_all_leave_while_being_scored_do_not_stop_the_next_batch(world: World):
    leaves = world.submit(2)
    world.leave(leaves)
    waits = world.submit(2)
    world.finish_all()
    assert waits.answer.result == world.expected(waits)
    assert world.stats().outcomes[Outcome.CANCELLED] == 1


def test_a_caller_that_leaves_in_the_same_moment_as_its_batch_is_cut_is_not_scored(world: World):
    """The scorer becomes free after the caller was cancelled, and before its task could say so."""
    world.submit(1)
    leaves, stays = world.submit(2), world.submit(3)
    leaves.task.cancel()
    world.executor.finish(0.001)
    world.settle()
    assert world.dispatched() == [stays.number]
    assert leaves.outcome is Outcome.CANCELLED
    assert world.stats().waiting_rows == 0


def test_a_caller_that_leaves_in_the_same_moment_as_its_answer_comes_is_counted_once(world: World):
    call = world.submit(2)
    world.executor.finish(0.001)
    call.task.cancel()
    world.settle()
    stats = world.stats()
    assert call.outcome is Outcome.CANCELLED
    assert stats.outcomes[Outcome.CANCELLED] == 1
    assert stats.offered == sum(stats.outcomes.values()) == 1


def test_a_caller_that_leaves_before_its_idle_scorer_starts_leaves_the_scorer_idle(world: World):
    async def leave_at_once() -> None:
        call = world.loop.create_task(world.batcher.submit("control", None, rows=1, due_at=1.0))
        await asyncio.sleep(0)
        assert world.stats().waiting_rows == 1
        call.cancel()

    world.run(leave_at_once())
    world.settle()
    assert not world.executor.busy
    assert not world.batches
    assert world.stats().outcomes[Outcome.CANCELLED] == 1


def test_half_of_those_who_wait_leave_and_only_the_others_are_scored(world: World):
    busy = world.submit(1)
    calls = [world.submit(1) for _ in range(60)]
    for call in calls[::2]:
        world.leave(call)
    world.finish_all()
    assert [call.outcome for call in calls] == [Outcome.CANCELLED, Outcome.OK] * 30
    assert sum(len(requests) for _, _, requests in world.batches) == 1 + 30
    assert busy.outcome is Outcome.OK


def test_a_caller_that_leaves_while_its_batch_is_taken_apart_disturbs_nobody(world: World):
    world.submit(1)
    mates = [world.submit(1, poison=poison) for poison in (False, True, False)]
    world.finish()
    world.finish()
    world.leave(mates[0])
    world.finish_all()
    assert [mate.outcome for mate in mates] == [Outcome.CANCELLED, Outcome.ERROR, Outcome.OK]


def test_a_timeout_around_submit_is_a_caller_that_leaves(world: World):
    async def impatient() -> None:
        async with asyncio.timeout(0.5):
            await world.batcher.submit("control", None, rows=1, due_at=world.loop.time() + 9.0)

    world.submit(1)
    with pytest.raises(TimeoutError):
        world.run(impatient())
    assert world.stats().waiting_rows == 0
    assert world.stats().outcomes[Outcome.CANCELLED] == 1
