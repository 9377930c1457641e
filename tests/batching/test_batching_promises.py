"""The promises of the batcher under everything that can happen, in any order, on a virtual clock."""

import random
from collections import Counter

from batching_world import Call, World, refused
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from batching import Limits, Outcome, Priority
from batching.policy import BUSY_HANDOVERS

LANES = ("control", "treatment")
LIMITS = Limits(max_batch_rows=16, max_batch_seconds=1.0, max_loop_seconds=1.0)  # up to two rows are scored on the loop
SIZES = (1, 1, 2, 3, 5, 8, 16, 17, 40)  # rows; 16 fill a batch
STEPS = Counter()


def raises(requests):
    if len(requests) == 1:
        requests[0].call.may_fail = True  # it was scored alone, so nobody can tell that it is not to blame
    raise MemoryError("not for any request's sake")


def too_short(requests):
    for request in requests:
        request.call.may_fail = True
    return [[] for _ in requests][1:]


def too_long(requests):
    return [*too_short(requests), [], []]


BREAKS = {"raises": raises, "too short": too_short, "too long": too_long}


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(handover_seconds=0.01 / BUSY_HANDOVERS, limits=LIMITS)
        self.drained = None
        self.batches_seen = 0
        self.submitted = 0
        self.pending: list[Call] = []
        self.ends: Counter[tuple[str, Outcome]] = Counter()

    # What can happen

    @rule(
        lane=st.sampled_from(LANES),
        rows=st.sampled_from(SIZES),
        timeout=st.sampled_from([0.005, 0.03, 0.1, 10.0]),
        priority=st.sampled_from(Priority),
        poison=st.sampled_from([False] * 11 + [True]),
    )
    def submit(self, lane, rows, timeout, priority, poison):
        stats = self.world.batcher.stats()
        idle = not any(each.waiting_rows or each.in_flight_rows for each in stats.lanes.values())
        call = self.world.submit(rows, lane=lane, timeout=timeout, priority=priority, poison=poison)
        if self.drained is not None:
            assert refused(call)
        elif idle:
            assert not refused(call)

    @rule(lane=st.sampled_from(LANES), sizes=st.lists(st.integers(1, 4), min_size=2, max_size=7))
    def submit_several(self, lane, sizes):
        for rows in sizes:
            self.submit(lane, rows, timeout=10.0, priority=Priority.NORMAL, poison=rows == 4 and sizes[0] == 1)

    @rule(
        lane=st.sampled_from(LANES),
        rows=st.sampled_from(SIZES),
        timeout=st.sampled_from([0.004, 0.02, 0.1]),
        priority=st.sampled_from(Priority),
    )
    def ask_for_more_after_a_refusal(self, lane, rows, timeout, priority):
        """Admission is monotone: what is harder to serve than something refused is refused."""
        if not refused(self.world.submit(rows, lane=lane, timeout=timeout, priority=priority)):
            return
        assert refused(self.world.submit(rows + 1, lane=lane, timeout=timeout, priority=priority))
        assert refused(self.world.submit(rows, lane=lane, timeout=timeout / 2, priority=priority))
        if priority is not Priority.SHEDDABLE:
            lower = Priority(priority + 1)
            assert refused(self.world.submit(rows, lane=lane, timeout=timeout, priority=lower))

    @precondition(lambda self: any(call.pending for call in self.world.calls))
    @rule(data=st.data())
    def leave(self, data):
        self.world.leave(data.draw(st.sampled_from([call for call in self.world.calls if call.pending])))

    @rule(seconds=st.sampled_from([0.0002, 0.001, 0.005, 0.03]))
    def advance(self, seconds):
        self.world.advance(seconds)

    @precondition(lambda self: self.world.executor.busy)
    @rule(slower=st.sampled_from([0.2, 1.0, 1.0, 1.1, 4.0]))
    def finish(self, slower):
        self.world.finish(slower=slower)

    @precondition(lambda self: not self.world.breaks and len(self.world.batches) % 4 == 3)
    @rule(how=st.sampled_from(sorted(BREAKS)))
    def break_the_next_scoring(self, how):
        self.world.breaks.append(BREAKS[how])

    @rule(lane=st.sampled_from(LANES))
    def swap(self, lane):
        spread = self.world.stats(lane).spread
        self.world.batcher.swap(lane, self.world.lane(lane))
        stats = self.world.stats(lane)
        assert (stats.scale, stats.spread) == (1.0, spread)

    @precondition(lambda self: self.drained is None and len(self.world.calls) > 150)
    @rule()
    def drain(self):
        self.drained = self.world.loop.create_task(self.world.batcher.drain())
        self.world.settle()

    # What stays true

    @invariant()
    def promises(self):
        STEPS["all"] += 1
        lanes = self.world.batcher.stats().lanes
        pending = [call for call in self.pending if call.pending]
        for call in self.world.calls[self.submitted :]:
            pending.append(call) if call.pending else self.ended(call)
        for call in self.pending:
            if not call.pending:
                self.ended(call)
        self.pending, self.submitted = pending, len(self.world.calls)
        for name, stats in lanes.items():
            self.every_request_has_one_outcome_or_is_pending(name, stats)
            self.rows_waiting_are_the_rows_of_those_who_wait(name, stats)
            assert 0.05 <= stats.scale <= 20.0
            assert 0.02 <= stats.spread <= 1.0
        for lane, _, requests in self.world.batches[self.batches_seen :]:
            assert 1 <= sum(map(len, requests)) <= lanes[lane].limit_rows
            self.nobody_was_overtaken({request.call for request in requests})
        self.batches_seen = len(self.world.batches)
        assert self.world.executor.busy or not any(stats.waiting_rows for stats in lanes.values())

    def every_request_has_one_outcome_or_is_pending(self, name, stats):
        assert stats.outcomes == {outcome: self.ends[name, outcome] for outcome in Outcome}
        assert stats.pending == sum(call.lane == name for call in self.pending)
        assert stats.offered == stats.pending + sum(stats.outcomes.values())
        assert sum(stats.shed.values()) == stats.outcomes[Outcome.SHED]

    def rows_waiting_are_the_rows_of_those_who_wait(self, name, stats):
        waiting = [call.rows - len(call.scored) for call in self.pending if call.lane == name]
        assert stats.waiting_rows == sum(waiting)
        assert stats.waiting_requests == sum(stats.waiting_by_class) == sum(map(bool, waiting))

    def nobody_was_overtaken(self, batch: set[Call]) -> None:
        """Who began to be scored had nobody of its class and lane before it who did not."""
        for call in batch:
            if min(call.scored) > 0:
                continue
            for other in self.pending:
                if other.number < call.number and other.lane == call.lane and other.priority == call.priority:
                    assert other.scored

    def ended(self, call: Call) -> None:
        """A request has its outcome: is it its own?"""
        self.ends[call.lane, call.outcome] += 1
        if call.outcome is Outcome.OK:
            (version,) = {row[1] for row in call.answer.result}
            assert call.answer.result == self.world.expected(call, version)
        elif call.outcome is Outcome.ERROR:
            assert call.poison or call.may_fail
        elif call.outcome is Outcome.SHED:
            assert not call.scored
            assert call.error.retry_after_seconds >= 0.0

    def teardown(self):
        with self.world:
            self.world.finish_all()
            assert not any(call.pending for call in self.world.calls)
            if self.drained is not None:
                assert self.drained.done()
                assert self.world.executor.closed


def test_the_promises_hold_whatever_happens():
    STEPS.clear()
    budget = settings(max_examples=250, stateful_step_count=100, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Machine, settings=budget)
    print(f"\n{STEPS['all']} steps")
    assert STEPS["all"] >= 20_000


def trace(seed: int) -> list[object]:
    """Two hundred things that happen to a world, drawn with this seed, and what came of them."""
    draw = random.Random(seed)
    with World() as world:
        for _ in range(200):
            pending = [call for call in world.calls if call.pending]
            match draw.choice(["submit", "submit", "leave", "advance", "finish", "swap"]):
                case "submit":
                    lane, priority = draw.choice(LANES), draw.choice(list(Priority))
                    world.submit(draw.choice(SIZES), lane=lane, timeout=draw.uniform(0.0, 0.2), priority=priority)
                case "leave" if pending:
                    world.leave(draw.choice(pending))
                case "advance":
                    world.advance(draw.uniform(0.0, 0.01))
                case "finish" if world.executor.busy:
                    world.finish(slower=draw.uniform(0.5, 2.0))
                case "swap":
                    lane = draw.choice(LANES)
                    world.batcher.swap(lane, world.lane(lane))
        world.finish_all()
        return [*world.reports, world.batcher.stats(), *(str(call.outcome) for call in world.calls)]


def test_the_same_seed_gives_the_same_trace_and_another_seed_another():
    assert trace(1) == trace(1)
    assert trace(1) != trace(2)
