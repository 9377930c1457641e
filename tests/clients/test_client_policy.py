"""When a call is tried again, on a clock that tests turn."""

import pytest
from frontrow_client import Backoff, DeadlinePassed, NoRanking, Policy, RetryBudget, Unreachable
from frontrow_client.policy import Call
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.floats(0, 5)
CHANCE = st.floats(0, 1)
SLACK = 1e-6


class Failure(NoRanking):
    def __init__(self, retry_after_seconds: float = 0.0, *, repeatable: bool = True) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.repeatable = repeatable


FAILURES = st.builds(Failure, st.sampled_from([0.0, 0.01, 1.0, 60.0]) | SECONDS, repeatable=st.booleans())


@given(
    share=st.floats(0, 1),
    spare=st.integers(0, 5),
    calls=st.lists(st.integers(0, 4), max_size=60),
    window=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_in_any_stretch_of_calls_retries_are_at_most_a_share_and_a_few(
    share: float, spare: int, calls: list[int], window: tuple[int, int]
) -> None:
    budget = RetryBudget(share, spare)
    retries = []
    for wanted in calls:
        budget.earn()
        retries.append(sum(budget.spend() for _ in range(wanted)))
    start, stop = sorted(window)
    stretch = retries[start:stop]
    assert sum(stretch) <= share * len(stretch) + spare + SLACK


def test_a_budget_begins_with_its_spare_and_calls_fill_it_no_further() -> None:
    budget = RetryBudget(share=0.5, spare=2)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


@pytest.mark.parametrize(("share", "spare"), [(-0.1, 1), (1.1, 1), (0.1, -1)])
def test_a_budget_that_makes_no_sense_is_refused(share: float, spare: int) -> None:
    with pytest.raises(ValueError, match="are allowed, got"):
        RetryBudget(share, spare)


@given(
    timeout=st.floats(0.001, 10),
    retries=st.integers(0, 5),
    steps=st.lists(st.tuples(SECONDS, FAILURES), min_size=8, max_size=8),
    chance=CHANCE,
)
def test_no_attempt_begins_after_the_deadline_and_nobody_rests_beyond_it(
    timeout: float, retries: int, steps: list[tuple[float, Failure]], chance: float
) -> None:
    now, attempts = 100.0, 0
    call = Call(Policy(RetryBudget(1, 100), retries=retries, chance=lambda: chance), now, timeout)
    with pytest.raises(NoRanking) as given_up:  # noqa: PT012 a call as clients make it
        for seconds, failure in steps:
            assert 0 < call.begin(now) <= timeout + SLACK
            attempts += 1
            now += seconds
            rest = call.rest_seconds(failure, now)
            assert failure.repeatable
            assert rest >= failure.retry_after_seconds
            now += rest
            assert now < call.due_at + SLACK
    assert attempts == call.attempts <= 1 + retries
    assert isinstance(given_up.value, DeadlinePassed | Failure)


def test_a_retry_after_beyond_the_deadline_is_given_up_at_once_and_costs_no_retry() -> None:
    budget = RetryBudget(0, 1)
    call = Call(Policy(budget, chance=lambda: 0.0), now=0.0, timeout_seconds=1.0)
    call.begin(0.0)
    failure = Failure(retry_after_seconds=1.0)
    with pytest.raises(Failure) as given_up:
        call.rest_seconds(failure, 0.0)
    assert given_up.value is failure
    assert budget.spend()


def test_an_empty_budget_gives_up_what_it_would_have_tried_again() -> None:
    policy = Policy(RetryBudget(0, 1), chance=lambda: 0.0)
    failure = Unreachable("nobody", repeatable=True)
    for expected in (0.0, None):
        call = Call(policy, 0.0, 1.0)
        call.begin(0.0)
        if expected is None:
            with pytest.raises(Unreachable):
                call.rest_seconds(failure, 0.0)
        else:
            assert call.rest_seconds(failure, 0.0) == expected


def test_a_deadline_that_is_there_already_is_no_attempt() -> None:
    call = Call(Policy(), now=5.0, timeout_seconds=0.0)
    with pytest.raises(DeadlinePassed):
        call.begin(5.0)
    assert call.attempts == 0


@given(retry=st.integers(1, 100), chance=CHANCE)
def test_the_jitter_is_drawn_from_all_of_a_ceiling_that_doubles(retry: int, chance: float) -> None:
    backoff = Backoff(base_seconds=0.1, most_seconds=2.0)
    ceiling = min(2.0, 0.1 * 2 ** (retry - 1))
    assert backoff.rest_seconds(retry, 1.0) == pytest.approx(ceiling)
    assert backoff.rest_seconds(retry, chance) == pytest.approx(chance * ceiling)
