"""Who is scored when: an idle scorer at once, classes in order, lanes by their scoring time."""

import asyncio
from collections.abc import Callable

import pytest
from batching_world import COST, World, refused

from batching import (
    Cost,
    DeadlineOutOfReach,
    DispatchReason,
    Expired,
    Limits,
    Outcome,
    Overloaded,
    Priority,
    QueueFull,
    UnknownLane,
)


def test_an_idle_scorer_starts_at_once(world: World):
    world.submit(1)
    assert world.executor.busy
    assert world.loop.time() == 0.0
    world.finish()
    assert world.reports[0].reason is DispatchReason.IDLE


def test_what_arrives_in_one_turn_of_the_loop_is_scored_together(world: World):
    calls = [world.submit_later(1) for _ in range(3)]
    world.settle()
    assert world.dispatched() == [call.number for call in calls]


def test_a_crowd_of_one_turn_does_not_wait_for_its_last_to_be_read():
    """Rows that take as long as the fixed part of a batch go while the loop reads on; the rest goes together."""
    with World(limits=Limits(max_batch_rows=100, max_batch_seconds=1.0)) as world:
        calls = [world.submit_later(8) for _ in range(6)]
        world.settle()
        assert world.dispatched() == [call.number for call in calls[:2]]
        world.finish()
        assert world.dispatched() == [call.number for call in calls[2:]]


def test_where_a_batch_costs_more_than_its_rows_a_crowd_of_one_turn_goes_together():
    with World(cost=Cost(0.005, 0.0001), limits=Limits(max_batch_rows=100, max_batch_seconds=1.0)) as world:
        calls = [world.submit_later(8) for _ in range(6)]
        world.settle()
        assert world.dispatched() == [call.number for call in calls]


def test_requests_gather_while_the_scorer_is_busy_and_go_together_when_it_is_free(world: World):
    world.submit(1)
    calls = [world.submit(2) for _ in range(4)]
    assert len(world.batches) == 1
    world.finish()
    assert world.dispatched() == [call.number for call in calls]
    world.finish()
    report = world.reports[1]
    assert (report.rows, report.requests, report.reason) == (8, 4, DispatchReason.GATHERED)
    assert report.queue_seconds == pytest.approx([COST.seconds(1)] * 4)
    assert report.score_seconds == pytest.approx(COST.seconds(8))


def test_the_answer_says_how_it_came_about(world: World):
    world.submit(1)
    call = world.submit(2)
    world.submit(3)
    world.finish_all()
    scored = call.answer
    assert scored.queue_seconds == pytest.approx(COST.seconds(1))
    assert scored.score_seconds == pytest.approx(COST.seconds(5))
    assert (scored.batch_rows, scored.batch_requests) == (5, 2)


def test_higher_classes_go_first_and_a_class_is_served_in_order(world: World):
    world.submit(16)
    order = [Priority.SHEDDABLE, Priority.NORMAL, Priority.CRITICAL, Priority.NORMAL, Priority.CRITICAL]
    calls = [world.submit(1, priority=priority) for priority in order]
    assert world.stats().waiting_by_class == (2, 2, 1)
    world.finish()
    assert world.dispatched() == [calls[place].number for place in (2, 4, 1, 3, 0)]


def test_a_batch_never_has_requests_of_two_lanes(world: World):
    world.submit(1)
    calls = [world.submit(1, lane=lane) for lane in ("control", "treatment") * 3]
    world.finish_all()
    assert sorted(map(len, map(world.dispatched, range(3)))) == [1, 3, 3]
    for call in calls:
        assert call.answer.result == world.expected(call)


def test_a_higher_class_goes_first_whatever_its_lane(world: World):
    world.submit(16, lane="treatment")
    for _ in range(3):
        world.submit(16, lane="control")
    urgent = world.submit(1, lane="treatment", priority=Priority.CRITICAL)
    world.finish()
    assert world.dispatched() == [urgent.number]


def test_a_lane_is_charged_what_its_batch_really_took(make_world):
    world = make_world(limits=Limits(max_batch_rows=16, max_batch_seconds=1.0, max_wait_seconds=1.0))
    world.submit(16, lane="treatment")
    for _ in range(8):
        world.submit(16, lane="control")
        world.submit(16, lane="treatment")
    world.finish(slower=5.0)
    for _ in range(4):
        world.finish()
    assert [lane for lane, _, _ in world.batches] == ["treatment", *["control"] * 5]


def test_a_slow_lane_gets_no_more_scoring_time_than_the_other(make_world):
    """Four times slower, and so a quarter of the batches."""
    world = make_world(limits=Limits(max_batch_rows=16, max_batch_seconds=1.0, max_wait_seconds=1.0))
    world.batcher.swap("treatment", world.lane("treatment", cost=Cost(0.004, 0.0004)))
    world.submit(1)
    for _ in range(10):
        world.submit(16, lane="control")
        world.submit(16, lane="treatment")
    spent = {"control": 0.0, "treatment": 0.0}
    world.finish()
    for _ in range(10):
        lane = world.batches[-1][0]
        world.finish(slower=4.0 if lane == "treatment" else 1.0)
        spent[lane] += world.reports[-1].score_seconds
    assert spent["treatment"] == pytest.approx(spent["control"], abs=4.1 * COST.seconds(16))
    assert [report.lane for report in world.reports[1:]].count("treatment") == 2


def test_a_lane_that_was_away_gets_no_credit_for_it(world: World):
    for _ in range(5):
        world.submit(16, lane="control")
        world.finish_all()
    world.submit(1)
    for _ in range(3):
        world.submit(16, lane="control")
        world.submit(16, lane="treatment")
    world.finish_all()
    served = [lane for lane, _, _ in world.batches[6:]]
    assert served.count("treatment") == 3
    assert served[:4].count("control") == 2


def test_a_crowded_lane_does_not_make_the_other_one_refuse(make_world):
    world = make_world(limits=Limits(max_batch_rows=16, max_batch_seconds=1.0, max_wait_seconds=0.02))
    world.submit(16)
    while not refused(world.submit(16, lane="control")):
        pass
    assert not refused(world.submit(4, lane="treatment"))


# Refusals


def test_a_deadline_out_of_reach_is_refused_at_once_with_its_numbers(world: World):
    world.submit(16)
    call = world.submit(16, timeout=0.003)
    assert isinstance(call.error, DeadlineOutOfReach)
    assert "16 rows need" in str(call.error)
    assert "3.0 ms are left" in str(call.error)
    assert call.error.retry_after_seconds == pytest.approx(COST.seconds(16))
    assert world.stats().shed == {"deadline": 1}


def test_a_line_has_an_end(make_world):
    world = make_world(limits=Limits(max_batch_rows=16, max_batch_seconds=1.0, max_waiting_batches=2))
    world.submit(1)
    assert [refused(world.submit(16)) for _ in range(3)] == [False, False, True]
    assert isinstance(world.calls[-1].error, QueueFull)
    assert str(world.calls[-1].error) == "control: with these 16 rows 48 would wait and 32 may"


def test_a_wait_that_would_be_too_long_is_refused_whatever_the_deadline(world: World):
    while not refused(world.submit(16)):
        pass
    assert isinstance(world.calls[-1].error, Overloaded)
    assert 0.03 < world.stats().waiting_rows / 16 * COST.seconds(16) < 0.04


def test_an_idle_scorer_admits_what_it_expects_to_be_late(world: World):
    """Otherwise a cost model that is far too high would never learn that it is."""
    call = world.submit(16, timeout=0.0001)
    world.finish(slower=0.01)
    assert call.outcome is Outcome.OK
    assert world.stats().scale < 1.0


def test_a_batch_that_is_overdue_is_expected_to_be_so_once_more(world: World):
    world.submit(1)
    world.advance(COST.seconds(1) + 0.020)
    assert isinstance(world.submit(1, timeout=0.015).error, DeadlineOutOfReach)
    assert world.submit(1, timeout=0.030).pending


def test_one_long_wait_is_not_yet_overload_and_a_second_one_is(world: World):
    world.submit(16)
    for overloaded in (False, True):
        world.submit(16)
        world.finish(slower=10.0)
        assert world.stats().overloaded is overloaded


def test_callers_with_impossible_deadlines_do_not_keep_a_lane_overloaded(world: World):
    for _ in range(25):
        world.submit(16)
        world.submit(16)
        world.finish()
    assert world.stats().overloaded
    world.finish_all()
    for _ in range(10):
        world.submit(1)
        assert isinstance(world.submit(1, timeout=1e-5).error, DeadlineOutOfReach)
        world.finish_all()
        world.advance(0.005)
    assert not world.stats().overloaded


def test_a_deadline_that_has_passed_is_expired_at_the_door(world: World):
    call = world.submit(1, timeout=0.0)
    assert isinstance(call.error, Expired)
    assert not world.executor.busy


def test_whoever_would_be_refused_can_be_turned_away_before_the_work_and_is_counted_once(world: World):
    world.submit(16)
    with pytest.raises(DeadlineOutOfReach):
        world.batcher.turn_away("control", rows=16, due_at=world.loop.time() + 0.003)
    stats = world.stats()
    assert (stats.offered, stats.offered_rows, stats.pending) == (2, 32, 1)
    assert stats.shed == {"deadline": 1}


def test_turning_away_lets_everybody_else_go_on_without_a_trace(world: World):
    world.batcher.turn_away("control", rows=16, due_at=1.0)
    world.submit(16)
    before = world.batcher.stats()
    world.batcher.turn_away("control", rows=16, due_at=1.0)
    assert world.batcher.stats() == before
    assert not refused(world.submit(16, timeout=1.0))


def test_a_lane_that_does_not_exist_and_a_request_without_rows_are_defects_and_not_counted(world: World):
    with pytest.raises(UnknownLane, match="'shadow' is none of control, treatment"):
        world.run(world.batcher.submit("shadow", (), rows=1, due_at=1.0))
    with pytest.raises(ValueError, match="at least one row, not 0"):
        world.run(world.batcher.submit("control", (), rows=0, due_at=1.0))
    assert world.stats().offered == 0


# Expiry


def test_whoever_expires_while_waiting_is_told_at_that_moment_and_never_scored(world: World):
    """Also behind a scorer that is stuck."""
    world.submit(1)
    waits, longer = world.submit(2, timeout=0.01), world.submit(2, timeout=0.02)
    world.advance(0.0099)
    assert waits.pending
    world.advance(0.0002)
    assert isinstance(waits.error, Expired)
    assert "2 rows waited 10.0 ms" in str(waits.error)
    assert longer.pending
    world.advance(0.01)
    assert isinstance(longer.error, Expired)
    world.finish_all()
    assert not waits.scored
    assert not longer.scored
    assert world.stats().waiting_rows == 0


def test_whoever_cannot_finish_in_time_any_more_is_not_scored_in_vain(world: World):
    world.submit(16)
    tight, loose = world.submit(10, timeout=0.007), world.submit(1)
    world.finish(slower=2.0)
    assert isinstance(tight.error, Expired)
    assert world.dispatched() == [loose.number]


def test_a_member_is_not_made_late_by_one_more(world: World):
    world.submit(16)
    tight, large = world.submit(1, timeout=0.0065), world.submit(15)
    world.finish(slower=1.5)
    assert world.dispatched() == [tight.number]
    world.finish_all()
    assert world.reports[1].reason is DispatchReason.DEADLINE
    assert tight.outcome is large.outcome is Outcome.OK


def test_who_will_be_late_anyway_does_not_keep_others_out_of_its_batch(world: World):
    late, other = world.submit_later(1, timeout=0.0001), world.submit_later(1)
    world.settle()
    assert world.dispatched() == [late.number, other.number]


# Swap


def test_a_swap_takes_effect_with_the_next_batch_and_forgets_what_was_learned(world: World):
    in_flight = world.submit(2)
    waits = world.submit(2)
    world.batcher.swap("control", world.lane("control", cost=Cost(0.002, 0.0002)))
    stats = world.stats()
    assert (stats.fixed_seconds, stats.row_seconds, stats.scale, stats.spread) == (0.002, 0.0002, 1.0, 0.15)
    world.finish()
    assert world.stats().scale == 1.0  # The batch of the old scorer taught nothing about the new one.
    world.finish_all()
    assert in_flight.answer.result == world.expected(in_flight, version=1)
    assert waits.answer.result == world.expected(waits, version=3)


def test_a_swap_keeps_what_is_known_of_the_machine(world: World):
    world.submit(2)
    world.advance(3 * world.stats().fixed_seconds)
    world.finish_all()
    before = world.stats()
    assert (before.scale, before.spread) != (1.0, 0.15)
    world.batcher.swap("control", world.lane("control"))
    assert (world.stats().scale, world.stats().spread) == (1.0, before.spread)


# On the loop


def world_on_the_loop(
    make_world: Callable[..., World], *, predicted: float, hop: float, really: float | None = None
) -> World:
    """A scorer that takes `really` seconds for a batch of one row, and is expected to take `predicted`."""
    world = make_world(cost=Cost(predicted / 2, predicted / 2), handover_seconds=hop)

    def score(requests):
        if not world.executor.working:
            world.loop.block(really or predicted)
        return [request.call.number for request in requests]

    world.batcher.swap("control", world.lane("control", score=score))
    return world


def test_what_is_cheaper_than_the_hop_is_scored_on_the_loop(make_world):
    world = world_on_the_loop(make_world, predicted=20e-6, hop=60e-6)
    assert [world.submit(1).answer.result for _ in range(3)] == [0, 1, 2]
    assert [report.on_loop for report in world.reports] == [True] * 3
    assert world.reports[-1].score_seconds == pytest.approx(20e-6)
    assert world.batcher.stats().loop_seconds == pytest.approx(1.8e-3)


def test_the_loop_has_its_turn_between_two_batches_scored_on_it(make_world):
    world = make_world(cost=Cost(1e-6, 1e-6), handover_seconds=60e-6)
    for lane in ("control", "treatment"):
        world.submit_later(1, lane=lane)
    reports_after_each_turn = []

    async def turn() -> None:
        for _ in range(6):
            await asyncio.sleep(0)
            reports_after_each_turn.append(len(world.reports))

    world.run(turn())
    assert set(reports_after_each_turn) >= {1, 2}


@pytest.mark.parametrize(("predicted", "hop"), [(1.9e-3, 60e-6), (2.1e-3, 0.01)])
def test_what_costs_more_than_the_hop_or_holds_the_loop_too_long_goes_to_the_thread(predicted, hop, make_world):
    world = world_on_the_loop(make_world, predicted=predicted, hop=hop)
    world.submit(1)
    assert world.executor.busy
    world.finish_all()
    assert not world.reports[-1].on_loop


def test_a_scorer_that_turns_out_to_be_slow_soon_leaves_the_loop(make_world):
    world = world_on_the_loop(make_world, predicted=1.2e-3, hop=60e-6, really=15e-3)
    for _ in range(4):
        world.submit(1)
        world.finish_all()
    assert [report.on_loop for report in world.reports] == [True, True, True, False]


def test_the_last_piece_of_a_large_request_comes_last_also_when_it_is_scored_on_the_loop(make_world):
    world = make_world(cost=Cost(20e-6, 10e-6), handover_seconds=2e-6)
    call = world.submit(17)
    world.finish_all()
    assert {report.rows: report.on_loop for report in world.reports} == {16: False, 1: True}
    assert call.answer.result == world.expected(call)


def test_a_batch_that_fails_on_the_loop_is_taken_apart_in_the_thread(make_world):
    world = make_world(cost=Cost(1e-6, 1e-6), handover_seconds=60e-6)

    calls = [world.submit_later(1, poison=number == 1) for number in range(3)]
    world.settle()
    assert world.executor.busy
    assert [call.pending for call in calls] == [True] * 3
    world.finish_all()
    assert [call.outcome for call in calls] == [Outcome.OK, Outcome.ERROR, Outcome.OK]
    assert not world.reports[-1].on_loop


# As costs change


def test_batches_are_sized_again_when_rows_have_become_dearer(make_world):
    world = make_world(cost=Cost(0.0005, 0.0001), limits=Limits(max_batch_rows=64, max_batch_seconds=0.005))
    before = world.batcher.stats().lanes["control"].limit_rows
    for _ in range(20):
        world.submit(8)
        world.finish(slower=4.0)
    after = world.batcher.stats().lanes["control"].limit_rows
    assert before == 45
    assert 4 * Cost(0.0005, 0.0001).seconds(after) <= 1.5 * 0.005
