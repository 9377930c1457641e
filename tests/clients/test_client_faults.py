"""Either client against a server that refuses, is silent, cuts connections or talks nonsense."""

import pytest
from client_doors import Open
from frontrow_client import (
    Candidate,
    DeadlinePassed,
    Event,
    FrontrowError,
    Overloaded,
    Policy,
    Rejected,
    RetryBudget,
    ServiceFailed,
    Unreachable,
    UnreadableAnswer,
)
from redis_server import free_port
from scripted_frontrow import CUT, GARBAGE, HALF, SILENT, Step, answer, ranked, refused, scripted

CANDIDATES = ["A1", Candidate("A2", {"price": 3.5}), "A3"]
PATIENT_SECONDS = 30.0  # a bound for a busy machine
SHORT_SECONDS = 0.05
RECEIPT = {"kept": 1, "unknown_activities": [], "too_old": 0}


@pytest.mark.parametrize(
    "step",
    [refused(503, Retry_After="0"), CUT, GARBAGE],
    ids=["a refusal that says when", "a connection that ended without a word", "what is no HTTP"],
)
async def test_what_may_be_asked_again_is_tried_once_more(opened: Open, step: Step) -> None:
    with scripted(step, ranked("A2", "A1")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            ranking = await client.rank(CANDIDATES, request_id="r-1")
    assert (ranking.ids, ranking.attempts, len(script.asked)) == (["A2", "A1"], 2, 2)
    first, second = script.asked
    assert first.timeout_ms >= second.timeout_ms > 0
    assert {asked.headers["x-request-id"] for asked in script.asked} == {"r-1"}
    assert first.body == second.body


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (refused(503), Overloaded),
        (refused(503, Retry_After="60"), Overloaded),
        (refused(504), DeadlinePassed),
        (refused(500), ServiceFailed),
        (refused(422), Rejected),
        (refused(413), Rejected),
        (HALF, Unreachable),
        (answer(200, b"<html>"), UnreadableAnswer),
        (answer(302, b"", Location="/elsewhere"), UnreadableAnswer),
    ],
)
async def test_what_would_be_no_better_is_asked_once(opened: Open, step: Step, kind: type[FrontrowError]) -> None:
    with scripted(step, ranked("A1")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            with pytest.raises(kind):
                await client.rank(CANDIDATES)
    assert len(script.asked) == 1


async def test_a_second_refusal_is_the_answer(opened: Open) -> None:
    busy = refused(503, Retry_After="0")
    with scripted(busy, busy, ranked("A1")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            with pytest.raises(Overloaded) as refusal:
                await client.rank(CANDIDATES)
    assert refusal.value.problem.detail == "because"
    assert len(script.asked) == 2


async def test_calls_together_have_no_more_retries_than_their_budget(opened: Open) -> None:
    budget = RetryBudget(share=0.5, spare=1)
    with scripted(CUT, ranked("A1"), CUT, CUT, ranked("A1")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS, policy=Policy(budget)) as client:
            assert (await client.rank(CANDIDATES)).attempts == 2
            with pytest.raises(Unreachable):
                await client.rank(CANDIDATES)  # half a retry is none
            assert (await client.rank(CANDIDATES)).attempts == 2
    assert len(script.asked) == 5


@pytest.mark.parametrize("step", [SILENT, Step(HALF.sends)], ids=["silence", "half an answer"])
async def test_a_deadline_ends_a_call_whatever_it_waits_for(opened: Open, step: Step) -> None:
    with scripted(step) as script:
        async with opened(script.url) as client:
            with pytest.raises(DeadlinePassed, match="within 50 ms"):
                await client.rank(CANDIDATES, timeout_seconds=SHORT_SECONDS)
    assert script.asked[0].timeout_ms <= 50


@pytest.mark.parametrize(
    ("step", "reason"),
    [(SILENT, DeadlinePassed), (refused(504), DeadlinePassed), (refused(503), Overloaded), (HALF, Unreachable)],
)
async def test_there_is_an_order_to_show_whatever_happens(
    opened: Open, step: Step, reason: type[FrontrowError]
) -> None:
    timeout_seconds = SHORT_SECONDS if step == SILENT else PATIENT_SECONDS
    with scripted(step) as script:
        async with opened(script.url, timeout_seconds=timeout_seconds) as client:
            order = await client.order(CANDIDATES, top_k=2)
    assert (order.ids, order.degraded, order.ranking) == (["A1", "A2"], True, None)
    assert isinstance(order.reason, reason)


async def test_an_order_is_that_of_the_ranking_where_there_is_one(opened: Open) -> None:
    with scripted(ranked("A3", "A1", "A2")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            order = await client.order(CANDIDATES)
    assert (order.ids, order.degraded, order.reason) == (["A3", "A1", "A2"], False, None)
    assert order.ranking is not None
    assert order.ranking.code_version == "abc"


async def test_no_order_hides_a_mistake_of_the_caller(opened: Open) -> None:
    with scripted(refused(422)) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            with pytest.raises(Rejected, match="422 X: because"):
                await client.order(CANDIDATES)


async def test_a_port_that_is_closed_is_tried_again_and_named(opened: Open) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with opened(url, timeout_seconds=PATIENT_SECONDS, policy=Policy(retries=3)) as client:
        with pytest.raises(Unreachable, match=url) as unreachable:
            await client.rank(CANDIDATES)
    assert unreachable.value.repeatable


async def test_events_that_are_sent_again_are_the_same_events(opened: Open) -> None:
    with scripted(CUT, answer(202, RECEIPT)) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            assert (await client.send_events(Event("ada", "A1", "view"))).kept == 1
    first, second = script.asked
    assert b'"at":' in first.body
    assert first.body == second.body


async def test_connections_are_kept_between_calls_and_a_stale_one_costs_a_retry_at_most(opened: Open) -> None:
    last_of_its_connection = Step(ranked("A1").sends, ends=True)
    with scripted(last_of_its_connection, ranked("A2")) as script:
        async with opened(script.url, timeout_seconds=PATIENT_SECONDS) as client:
            assert (await client.rank(CANDIDATES)).ids == ["A1"]
            assert (await client.rank(CANDIDATES)).ids == ["A2"]
    assert len(script.asked) == 2
