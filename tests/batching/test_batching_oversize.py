"""Requests of more rows than a batch: scored in pieces, put together again, and no burden to their neighbours."""

from dataclasses import replace

import pytest
from batching_world import World, refused

from batching import Expired, Outcome, ScoringFailed


def batch_rows(world: World) -> list[int]:
    return [sum(map(len, requests)) for _, _, requests in world.batches]


@pytest.mark.parametrize("rows", [16, 17, 31, 32, 33, 100])
def test_a_large_request_gets_the_result_it_would_get_alone(world: World, rows):
    call = world.submit(rows)
    world.finish_all()
    assert call.answer.result == world.expected(call)
    assert batch_rows(world) == [16] * (rows // 16) + ([rows % 16] if rows % 16 else [])


def test_neighbours_wait_for_one_piece_not_for_all_of_it(world: World):
    large = world.submit(160)
    small = world.submit(2)
    world.finish()
    world.finish()
    assert small.answer.result == world.expected(small)
    assert large.pending
    world.finish_all()
    assert large.answer.result == world.expected(large)


def test_a_small_request_behind_a_large_one_is_predicted_to_wait_for_one_piece(world: World):
    world.submit(160)
    assert not refused(world.submit(2, timeout=0.015))


def test_two_large_requests_take_turns(world: World):
    one, other = world.submit(48), world.submit(48)
    world.finish_all()
    turns = [world.dispatched(number)[0] for number in range(len(world.batches))]
    assert turns == [one.number, other.number] * 3
    assert one.answer.result == world.expected(one)
    assert other.answer.result == world.expected(other)


def test_whoever_does_not_fit_gives_what_fits_and_goes_first_next(world: World):
    world.submit(1)
    calls = [world.submit(10), world.submit(10), world.submit(3)]
    world.finish_all()
    assert batch_rows(world) == [1, 16, 7]
    assert world.dispatched(2) == [calls[1].number, calls[2].number]
    for call in calls:
        assert call.answer.result == world.expected(call)


def test_times_of_a_large_request_are_those_of_all_its_pieces(world: World):
    world.submit(16)
    large = world.submit(48)
    world.finish_all()
    scored = large.answer
    assert scored.score_seconds == pytest.approx(3 * world.cost.seconds(16))
    assert scored.queue_seconds == pytest.approx(world.cost.seconds(16))
    assert (scored.batch_rows, scored.batch_requests) == (16, 1)
    assert [report.queue_seconds for report in world.reports[1:]] == [pytest.approx((world.cost.seconds(16),))] * 3


def test_a_large_request_whose_caller_leaves_between_pieces_is_scored_no_further(world: World):
    large = world.submit(160)
    world.finish()
    world.leave(large)
    world.finish_all()
    assert large.outcome is Outcome.CANCELLED
    assert len(large.scored) == 32
    assert world.stats().waiting_rows == 0


def test_a_large_request_that_fails_in_one_piece_fails_once_and_is_scored_no_further(world: World):
    large = world.submit(160, poison=True)
    small = world.submit(2)
    world.finish_all()
    assert isinstance(large.error, ScoringFailed)
    assert len(large.scored) <= 32
    assert world.stats().waiting_rows == 0
    assert small.outcome is Outcome.OK


def test_a_large_request_that_expires_between_pieces_is_scored_no_further(world: World):
    large = world.submit(160, timeout=0.03)
    world.finish()
    world.advance(0.05)
    assert isinstance(large.error, Expired)
    world.finish_all()
    assert len(large.scored) == 32


def test_a_split_that_raises_fails_its_own_request_only(world: World):
    def split(request, start, stop):
        if start:
            raise IndexError(start)
        return replace(request, start=start, stop=stop)

    world.batcher.swap("control", world.lane("control", split=split))
    large, small = world.submit(40), world.submit(2)
    world.finish_all()
    assert isinstance(large.error, ScoringFailed)
    assert isinstance(large.error.__cause__, IndexError)
    assert small.outcome is Outcome.OK
    assert world.stats().waiting_rows == world.stats().in_flight_rows == 0


def test_a_join_that_raises_fails_its_own_request_only(world: World):
    def join(_):
        raise IndexError

    world.batcher.swap("control", world.lane("control", join=join))
    large, small = world.submit(40), world.submit(2)
    world.finish_all()
    assert isinstance(large.error.__cause__, IndexError)
    assert small.outcome is Outcome.OK


def test_all_pieces_are_scored_by_one_model_also_when_it_is_swapped_between_them(world: World):
    large = world.submit(48)
    waits = world.submit(2)
    world.finish()
    world.batcher.swap("control", world.lane("control"))
    world.finish_all()
    assert large.answer.result == world.expected(large, version=1)
    assert waits.answer.result == world.expected(waits, version=1)
    after = world.submit(2)
    world.finish_all()
    assert after.answer.result == world.expected(after, version=3)
