"""Drain: the door closes, whoever is inside is answered, then the lights go out."""

import pytest
from batching_world import LIMITS, World, refused

from batching import Batcher, Draining, NotStarted, Outcome


def test_intake_stops_and_everything_admitted_is_answered(world: World):
    inside = [world.submit(4) for _ in range(10)]
    drained = world.loop.create_task(world.batcher.drain())
    world.settle()
    outside = world.submit(1)
    assert isinstance(outside.error, Draining)
    assert not drained.done()
    world.finish_all()
    assert drained.done()
    assert [call.outcome for call in inside] == [Outcome.OK] * 10
    assert world.executor.closed


def test_a_refusal_while_draining_says_when_the_rest_will_be_done(world: World):
    world.submit(16)
    world.submit(16)
    world.loop.create_task(world.batcher.drain())
    world.settle()
    assert world.submit(1).error.retry_after_seconds == pytest.approx(2 * world.cost.seconds(16))


def test_an_idle_batcher_closes_at_once_and_draining_again_is_no_error(world: World):
    world.run(world.batcher.drain())
    world.run(world.batcher.drain())
    assert world.executor.closed
    assert refused(world.submit(1))


def test_two_who_drain_are_both_told_when_it_is_done(world: World):
    world.submit(1)
    waiters = [world.loop.create_task(world.batcher.drain()) for _ in range(2)]
    world.settle()
    assert not any(waiter.done() for waiter in waiters)
    world.finish_all()
    assert all(waiter.done() for waiter in waiters)


def test_whoever_leaves_does_not_keep_the_door_open(world: World):
    world.submit(1)
    waits = world.submit(1)
    drained = world.loop.create_task(world.batcher.drain())
    world.leave(waits)
    world.finish_all()
    assert drained.done()


def test_it_does_not_close_under_a_batch_whose_callers_all_left(world: World):
    call = world.submit(1)
    drained = world.loop.create_task(world.batcher.drain())
    world.leave(call)
    assert not drained.done()
    assert not world.executor.closed
    world.finish_all()
    assert drained.done()


def test_a_drain_that_is_given_up_can_be_taken_up_again(world: World):
    call = world.submit(1)
    world.loop.create_task(world.batcher.drain()).cancel()
    world.settle()
    drained = world.loop.create_task(world.batcher.drain())
    world.finish_all()
    assert drained.done()
    assert call.outcome is Outcome.OK


def test_counts_are_final_when_it_is_drained(world: World):
    for number in range(12):
        world.submit(3, poison=number == 4)
    drained = world.loop.create_task(world.batcher.drain())
    world.finish_all()
    assert drained.done()
    stats = world.stats()
    assert stats.pending == stats.waiting_rows == stats.in_flight_rows == 0
    assert stats.offered == sum(stats.outcomes.values()) == 12
    assert stats.outcomes[Outcome.ERROR] == 1


def test_before_the_start_there_is_nothing_to_use_and_nothing_to_drain(world: World):
    batcher = Batcher({"control": world.lane("control")}, limits=LIMITS)
    with pytest.raises(NotStarted):
        world.run(batcher.submit("control", None, rows=1, due_at=1.0))
    with pytest.raises(NotStarted):
        batcher.stats()
    world.run(batcher.drain())
