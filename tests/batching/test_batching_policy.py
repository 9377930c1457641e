"""The decisions, as arithmetic."""

import math
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching import Cost, DeadlineOutOfReach, Limits, Overloaded, Priority, QueueFull
from batching.lanes import Lane, Lanes
from batching.policy import CostModel, OverloadFlag, budget_seconds, refusal
from batching.report import DispatchReason
from batching.waiting import Ticket, WaitingLine, cut, cut_one_by_one

REFERENCE = Cost(35e-6, 22e-6)  # LightGBM, 300 trees of 63 leaves
COMPILED = Cost(5e-6, 0.25e-6)
HOP = 60e-6


@pytest.mark.parametrize(
    ("cost", "limits", "rows"),
    [
        (REFERENCE, Limits(), 211),  # the fixed part, hop included, is 2 %
        (REFERENCE, Limits(max_batch_rows=100), 100),
        (REFERENCE, Limits(max_batch_seconds=0.001), 43),  # as many as take 1 ms
        (COMPILED, Limits(), 4096),
        (COMPILED, Limits(max_batch_rows=100_000), 12_740),
        (Cost(0.010, 10e-6), Limits(), 1005),  # the fixed part alone takes too long: no more than half of a batch
        (Cost(1.0, 1.0), Limits(), 1),
    ],
)
def test_batches_are_large_enough_to_pay_and_small_enough_to_be_soon(cost, limits, rows):
    assert limits.batch_rows(cost, HOP) == rows


def test_merging_saves_little_of_the_reference_engine_so_its_batches_stay_below_their_time():
    rows = Limits().batch_rows(REFERENCE, HOP)
    assert REFERENCE.seconds(rows) <= Limits().max_batch_seconds
    assert (REFERENCE.fixed_seconds + HOP) / (REFERENCE.seconds(rows) + HOP) == pytest.approx(0.02, abs=0.001)


@pytest.mark.parametrize("parts", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_a_cost_that_cannot_be_is_refused(parts):
    with pytest.raises(ValueError, match="positive and finite"):
        Cost(*parts)


@pytest.mark.parametrize(
    "wrong",
    [{"max_batch_rows": 0}, {"max_waiting_batches": 0}, {"fixed_share": 1.0}, {"max_batch_seconds": 0.0}],
)
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|between|positive"):
        Limits(**wrong)


# The cost model


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 512), st.floats(1e-9, 1e3))))
def test_scale_and_spread_stay_within_their_clamps_whatever_is_measured(batches):
    model = CostModel(REFERENCE)
    for rows, seconds in batches:
        before = model.scale
        model.learn(rows, seconds)
        assert 0.05 <= model.scale <= 100.0
        assert 0.02 <= model.spread <= 1.0
        assert 0.9 * before - 1e-12 <= max(model.scale, 0.045) or model.scale == 0.05
        assert model.scale <= 1.2 * before + 1e-12 or model.scale == 0.05


@pytest.mark.parametrize("slower", [0.2, 1.0, 5.0, 40.0])
def test_the_scale_finds_a_machine_that_is_slower_or_faster(slower):
    model = CostModel(REFERENCE)
    for rows in (50, 100, 200) * 20:
        model.learn(rows, slower * REFERENCE.seconds(rows))
    assert model.scale == pytest.approx(slower, rel=0.01)
    assert model.spread < 0.1


def test_one_wild_measurement_moves_the_scale_by_a_fifth_at_most():
    model = CostModel(REFERENCE)
    model.learn(50, 100.0)
    assert model.scale == pytest.approx(1.2)


# The overload flag

THRESHOLD = 0.009


def look(flag: OverloadFlag, now: float, head_wait_seconds: float = 0.0) -> bool:
    if now >= flag.due_at:
        flag.look(now, threshold_seconds=THRESHOLD, head_wait_seconds=head_wait_seconds)
    return flag.on


def test_a_queue_that_stands_for_a_whole_interval_is_overload_and_a_burst_is_not():
    flag = OverloadFlag()
    assert not look(flag, 0.0)
    flag.saw_dispatch(0.030)
    flag.saw_dispatch(0.001)
    assert not look(flag, 0.026)
    flag.saw_dispatch(0.030)
    flag.saw_dispatch(0.010)
    assert look(flag, 0.052)


def test_overload_lasts_while_budgets_refuse_and_ends_when_they_do_not():
    flag = OverloadFlag()
    look(flag, 0.0)
    flag.saw_dispatch(0.030)
    assert look(flag, 0.026)
    flag.saw_dispatch(0.001)
    flag.saw_refusal()
    assert look(flag, 0.052)
    flag.saw_dispatch(0.001)
    assert not look(flag, 0.078)


def test_silence_ends_overload_unless_somebody_still_waits():
    for head_wait_seconds, overloaded in ((0.0, False), (0.030, True)):
        flag = OverloadFlag()
        look(flag, 0.0)
        flag.saw_dispatch(0.030)
        assert look(flag, 0.026)
        flag.saw_refusal()
        assert look(flag, 0.200, head_wait_seconds) is overloaded


# Who is admitted


def ask(**changes):
    asked = {
        "rows": 50,
        "waiting_rows": 600,
        "limit_rows": 512,
        "room_rows": 10_240,
        "finish_seconds": 0.020,
        "left_seconds": 0.100,
        "budget_seconds": 0.050,
    } | changes
    found = refusal(**asked)
    return found and found.error


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, None),
        ({"waiting_rows": 10_191}, QueueFull),
        ({"waiting_rows": 10_190}, None),
        ({"left_seconds": 0.019}, DeadlineOutOfReach),
        ({"budget_seconds": 0.019}, Overloaded),
        ({"budget_seconds": 0.019, "waiting_rows": 462}, None),  # one batch may always gather
        ({"budget_seconds": 0.019, "waiting_rows": 463}, Overloaded),
        ({"left_seconds": 0.019, "waiting_rows": 0}, DeadlineOutOfReach),
    ],
)
def test_a_busy_scorer_admits_what_fits_the_room_the_deadline_and_the_budget(changes, error):
    assert ask(**changes) is error


def test_under_overload_higher_classes_may_wait_longer():
    budgets = [
        budget_seconds(priority, overloaded=True, full_batch_seconds=0.004, max_wait_seconds=0.05)
        for priority in Priority
    ]
    assert budgets == pytest.approx([0.0375, 0.028125, 0.01875])
    assert budget_seconds(Priority.SHEDDABLE, overloaded=False, full_batch_seconds=0.004, max_wait_seconds=0.05) == 0.05


def lanes_with(waiting: list[tuple[int, int]], scale: float, *, overloaded: bool, spread: float = 0.15) -> Lanes:
    lane = Lane(score=list, split=lambda *_: None, join=list, cost=Cost(0.001, 10e-6))
    lanes = Lanes({"a": lane, "b": lane}, Limits(max_batch_rows=512, max_batch_seconds=1.0))
    lanes.open(50e-6)
    for which, rows in waiting:
        ticket = Ticket(None, None, None, rows=rows, due_at=9.0, priority=Priority.NORMAL, now=0.0, probe=False)
        lanes.join(lanes.by_name["ab"[which]], ticket)
    for state in lanes:
        state.model.scale = scale
        state.model.spread = spread
        state.flag.on = overloaded
        lanes.look(state, 0.0)
        state.flag.on = overloaded
    lanes.learn_handover(50e-6)  # and see what a full batch takes at that scale
    return lanes


busy_lanes = st.builds(
    lanes_with,
    waiting=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2000)), max_size=8),
    scale=st.floats(0.05, 100.0),
    overloaded=st.booleans(),
    spread=st.floats(0.02, 1.0),
)
requests = st.tuples(st.sampled_from(Priority), st.integers(1, 2000), st.floats(0.0, 0.2))


@settings(deadline=None)
@given(lanes=busy_lanes, busy=st.floats(0.0, 0.05), easier=requests, harder=requests)
def test_what_is_harder_to_serve_than_something_refused_is_refused(lanes, busy, easier, harder):
    """Admission is monotone in deadline and class, and antitone in rows."""

    def refused(priority, rows, left_seconds):
        state = lanes.by_name["a"]
        return lanes.refusal(state, priority, rows, left_seconds=left_seconds, busy_seconds=busy, now=0.0)

    harder = max(easier[0], harder[0]), max(easier[1], harder[1]), min(easier[2], harder[2])
    assert refused(*harder) or not refused(*easier)


@settings(deadline=None, max_examples=1_000)
@given(lanes=busy_lanes, busy=st.floats(0.0, 0.05), request=requests, preparing=st.sampled_from([0.0, 0.01]))
def test_whoever_plainly_has_room_would_be_admitted_by_the_whole_look_too(lanes, busy, request, preparing):
    priority, rows, left_seconds = request
    state = lanes.by_name["a"]
    state.prepare_seconds = preparing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lanes, "_is_roomy", lambda *_: False)
        whole_look = lanes.refusal(state, priority, rows, left_seconds=left_seconds, busy_seconds=busy, now=0.0)
    assert lanes.refusal(state, priority, rows, left_seconds=left_seconds, busy_seconds=busy, now=0.0) == whole_look


def test_the_other_lane_counts_no_more_than_ones_own_share():
    crowded = lanes_with([(1, 5000)], 1.0, overloaded=False)
    quiet = lanes_with([], 1.0, overloaded=False)
    one, other = crowded.by_name["a"], quiet.by_name["a"]
    alone = quiet.finish_seconds(other, 100, 0.0)
    assert crowded.finish_seconds(one, 100, 0.0) == pytest.approx(alone + crowded.work_seconds(one, 100))


# The line


@settings(deadline=None)
@given(st.data())
def test_a_line_counts_exactly_whatever_joins_leaves_and_is_taken(data):
    line = WaitingLine()
    line.resize(16)
    inside = []
    for _ in range(data.draw(st.integers(0, 30))):
        act = data.draw(st.sampled_from(["join", "leave", "take", "limit"]))
        if act == "join":
            priority = data.draw(st.sampled_from(Priority))
            rows = data.draw(st.integers(1, 40))
            ticket = Ticket(None, None, None, rows=rows, due_at=9.0, priority=priority, now=0.0, probe=False)
            line.join(ticket)
            inside.append(ticket)
        elif act == "limit":
            line.resize(data.draw(st.integers(1, 40)))
        elif inside:
            ticket = data.draw(st.sampled_from(inside))
            if act == "leave":
                line.leave(ticket)
                line.leave(ticket)
                inside.remove(ticket)
            else:
                line.take(ticket, data.draw(st.integers(1, ticket.rows_left)))
                if not ticket.rows_left:
                    inside.remove(ticket)
        assert line.rows == sum(ticket.rows_left for ticket in inside)
        assert line.turn_rows == sum(min(ticket.rows_left, line.limit_rows) for ticket in inside)
        assert len(line) == len(inside) == sum(line.requests_by_class())


def line_of(asked: list[tuple[Priority, int, float, bool, bool, int]], limit_rows: int) -> WaitingLine:
    """Requests in line: priority, rows, deadline, whether each is a probe and whether it is gone, rows cut before."""
    line = WaitingLine()
    line.resize(limit_rows)
    for number, (priority, rows, due_at, probe, gone, begun) in enumerate(asked):
        future: Future[None] = Future()
        if gone:
            future.cancel()
        ticket = Ticket(
            None, future, number, rows=rows, due_at=due_at, priority=priority, now=number * 1e-5, probe=probe
        )
        line.join(ticket)
        if 0 < begun < rows:
            line.take(ticket, begun)
            ticket.lane = "the one before"
    return line


waiting = st.tuples(
    st.sampled_from(Priority),
    st.integers(1, 12),
    st.floats(1.0, 1.4),
    st.booleans(),
    st.sampled_from([False] * 5 + [True]),
    st.sampled_from([0] * 5 + [1, 2]),
)


@settings(max_examples=400)
@given(st.lists(waiting, max_size=8), st.integers(1, 60))
def test_a_line_that_can_go_as_a_whole_is_cut_as_it_would_be_one_by_one(asked, limit_rows):
    model = CostModel(Cost(0.1, 0.005))
    one, other = line_of(asked, limit_rows), line_of(asked, limit_rows)
    taken, expected = cut(one, "now", model, 1.0), cut_one_by_one(other, "now", model, 1.0)
    if expected.rows == limit_rows:
        expected.reason = DispatchReason.FULL
    for found in (taken, expected):
        found.tickets = [(each.request, each.rows_left, each.queue_seconds) for each in found.tickets]
        found.expired = [each.request for each in found.expired]
    assert taken == expected
    assert [(each.request, each.rows_left) for each in one] == [(each.request, each.rows_left) for each in other]
    assert (one.rows, one.turn_rows) == (other.rows, other.turn_rows)
