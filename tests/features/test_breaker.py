from features import Breaker
from features.breaker import Passage

CALL, PROBE, NO = Passage.CALL, Passage.PROBE, Passage.NO


def opened(at: float) -> Breaker:
    breaker = Breaker(failures=3, probe_seconds=0.25)
    for _ in range(3):
        breaker.failed(breaker.passage(at), at)
    return breaker


def test_a_few_failures_change_nothing_and_a_success_forgets_them() -> None:
    breaker = Breaker(failures=3)
    for passed in (False, False, True, False, False):
        assert breaker.passage(0) is CALL
        if passed:
            breaker.succeeded(CALL)
        else:
            breaker.failed(CALL, 0)
    assert not breaker.open


def test_failures_on_end_open_it() -> None:
    assert opened(at=10).open


def test_while_it_is_open_one_probe_at_a_time_goes_through() -> None:
    breaker = opened(at=10)
    assert [breaker.passage(now) for now in (10, 10.2, 10.25, 10.3, 99)] == [NO, NO, PROBE, NO, NO]


def test_the_next_probe_comes_a_while_after_one_that_failed() -> None:
    breaker = opened(at=10)
    assert breaker.passage(11) is PROBE
    breaker.failed(PROBE, 11.5)
    assert [breaker.passage(now) for now in (11.5, 11.7, 11.75)] == [NO, NO, PROBE]


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened(at=10)
    breaker.succeeded(breaker.passage(11))
    assert not breaker.open
    assert breaker.passage(11) is CALL


def test_after_a_recovery_it_takes_as_many_failures_again() -> None:
    breaker = opened(at=10)
    breaker.succeeded(breaker.passage(11))
    breaker.failed(CALL, 12)
    breaker.failed(CALL, 12)
    assert not breaker.open


def test_a_call_from_before_it_opened_closes_nothing() -> None:
    breaker = opened(at=10)
    breaker.succeeded(CALL)
    assert breaker.open
