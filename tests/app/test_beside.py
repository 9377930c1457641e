"""Long work beside the event loop, and how it gives way."""

import sys

import pytest

from app.beside import REST_SECONDS, WORK_SECONDS, Rests, beside


def test_work_rests_once_it_took_its_time_and_not_before() -> None:
    now, rested = 100.0, []
    rests = Rests(clock=lambda: now, rest=rested.append)
    for moment, expected in ((0.4, 0), (1.1, 1), (2.0, 1), (2.2, 2)):
        now = 100.0 + moment * WORK_SECONDS
        rests()
        assert rested == expected * [REST_SECONDS], moment


async def test_each_call_and_return_of_work_beside_the_loop_may_begin_a_rest() -> None:
    assert isinstance(await beside(sys.getprofile), Rests)
    assert not isinstance(sys.getprofile(), Rests)


async def test_what_work_beside_the_loop_raises_is_raised_to_who_asked() -> None:
    def fail() -> None:
        raise KeyError("the model")

    with pytest.raises(KeyError, match="the model"):
        await beside(fail)
