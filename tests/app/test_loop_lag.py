"""An event loop that has more work than time: who is turned away, and how soon it is noticed."""

import asyncio
import time
from types import SimpleNamespace

import httpx
import pytest

from app.heartbeat import INTERVAL_SECONDS, STANDING_BEATS, Heartbeat
from app.service import Service

BODY = {"candidates": ["A1", "A2"]}


async def beats(heart: Heartbeat, count: int) -> None:
    """Wait for `count` more of them."""
    wanted = heart.beats + count
    while heart.beats < wanted:  # noqa: ASYNC110 nobody tells of a beat
        await asyncio.sleep(INTERVAL_SECONDS)


async def test_who_comes_while_the_loop_stands_still_may_have_waited_as_long_as_the_beat_is_late() -> None:
    heart = Heartbeat(lambda: None)
    heart.start()
    await beats(heart, 1)
    busy_since = time.monotonic()
    time.sleep(10 * INTERVAL_SECONDS)  # noqa: ASYNC251 the loop is to be busy
    assert 9 * INTERVAL_SECONDS <= heart.lag_seconds() <= time.monotonic() - busy_since + INTERVAL_SECONDS
    heart.stop()


async def test_the_last_of_a_crowd_that_came_at_once_waits_twice_as_long_as_it_took_to_read() -> None:
    heart = Heartbeat(lambda: None)
    heart.start()
    await beats(heart, 1)
    heart.lag_seconds()  # the first of them
    time.sleep(10 * INTERVAL_SECONDS)  # noqa: ASYNC251 the loop is to be busy
    assert heart.lag_seconds() >= (10 + 9) * INTERVAL_SECONDS
    heart.stop()


async def test_a_crowd_is_none_once_the_loop_has_read_it() -> None:
    heart = Heartbeat(lambda: None)
    heart.start()
    await beats(heart, 1)
    heart.lag_seconds()
    await asyncio.sleep(0)  # the loop goes around
    busy_since = time.monotonic()
    time.sleep(10 * INTERVAL_SECONDS)  # noqa: ASYNC251 the loop is to be busy
    assert 9 * INTERVAL_SECONDS <= heart.lag_seconds() <= time.monotonic() - busy_since + INTERVAL_SECONDS
    heart.stop()


async def test_one_late_beat_is_forgotten_with_the_next() -> None:
    heart = Heartbeat(lambda: None)
    heart.start()
    await beats(heart, 1)
    time.sleep(50 * INTERVAL_SECONDS)  # noqa: ASYNC251 the loop is to be busy
    await beats(heart, 2 + STANDING_BEATS)
    assert heart.lag_seconds() < 2 * 49 * INTERVAL_SECONDS
    assert heart.longest_lag_seconds >= 49 * INTERVAL_SECONDS
    heart.stop()


def test_a_heart_that_does_not_beat_is_late_for_nobody() -> None:
    assert Heartbeat(lambda: None).lag_seconds() == 0


async def test_a_late_loop_refuses_those_in_a_hurry_and_serves_the_patient(
    service: Service, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "heartbeat", SimpleNamespace(lag_seconds=lambda: 0.5, stop=service.heartbeat.stop))
    hurried = await client.post("/v1/rank", json=BODY, headers={"X-Request-Timeout-Ms": "1000"})
    patient = await client.post("/v1/rank", json=BODY)  # 10 s
    assert (hurried.status_code, patient.status_code) == (503, 200)
    assert "late" in hurried.json()["detail"]
    assert "retry-after" in hurried.headers
