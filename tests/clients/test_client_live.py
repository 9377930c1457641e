"""Either client against a real service."""

import dataclasses
from typing import Any

import frontrow_client
import httpx
import pytest
from client_doors import Open
from frontrow_client import Candidate, DeadlinePassed, Event, Policy, Rejected
from processes import Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clients")]

PATIENT_SECONDS = 30.0  # a bound for a busy machine
MINE = Candidate("mine", {"category": "museum", "price": 12.5, "free_cancellation": True, "rating": None})


@pytest.fixture(scope="module")
def document(service: Process) -> dict[str, Any]:
    read: dict[str, Any] = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    return read


async def test_a_ranking_says_who_made_it(opened: Open, service: Process) -> None:
    async with opened(service.url, timeout_seconds=PATIENT_SECONDS) as client:
        ranking = await client.rank(
            ["A1", MINE, "new"],
            context={"device": "mobile", "days_to_trip": 3},
            visitor_id="ada",
            request_id="r-1",
            priority="critical",
            variant="treatment",
        )
    assert sorted(ranking.ids) == ["A1", "mine", "new"]
    assert [one.position for one in ranking.ranking] == [1, 2, 3]
    assert (ranking.request_id, ranking.variant, ranking.assignment) == ("r-1", "treatment", "forced")
    assert (ranking.model.name, ranking.model.version, ranking.code_version) == ("activity-ranker", "2", "test")
    assert (ranking.unknown_candidates, ranking.degraded, ranking.explanations) == (("new",), False, None)
    assert ranking.attempts == 1


async def test_a_ranking_explains_itself_when_asked(opened: Open, service: Process) -> None:
    async with opened(service.url, timeout_seconds=PATIENT_SECONDS) as client:
        ranking = await client.rank(["A1", MINE], explain=True, top_k=1)
    assert ranking.explanations is not None
    (explanation,) = ranking.explanations
    (best,) = ranking.ranking
    added = explanation.base + sum(one.contribution for one in explanation.features) + explanation.others
    assert (explanation.id, added) == (best.id, pytest.approx(best.score))


async def test_a_mistake_is_told_with_its_places(opened: Open, service: Process) -> None:
    async with opened(service.url, timeout_seconds=PATIENT_SECONDS) as client:
        with pytest.raises(Rejected) as mistake:
            await client.order(["A1", "A1"], context={"devise": "mobile"})
        assert mistake.value.problem.status == 422
        assert mistake.value.problem.faults[0].place.startswith("$.")


async def test_a_time_that_is_too_short_for_anybody_gives_the_order_that_was_given(
    opened: Open, service: Process
) -> None:
    async with opened(service.url, timeout_seconds=1e-6) as client:
        order = await client.order(["A2", "A1"])
    assert (order.ids, order.degraded) == (["A2", "A1"], True)
    assert isinstance(order.reason, DeadlinePassed)


async def test_events_are_kept_and_forgotten(opened: Open, service: Process) -> None:
    async with opened(service.url, timeout_seconds=PATIENT_SECONDS, policy=Policy(retries=0)) as client:
        receipt = await client.send_events(Event("ada", "A1", "view"), Event("ada", "nowhere", "click", at=1))
        assert (receipt.kept, receipt.unknown_activities, receipt.too_old) == (1, ("nowhere",), 0)
        await client.forget("ada")
        with pytest.raises(Rejected):
            await client.forget("no visitor")


@pytest.mark.parametrize(
    ("schema", "mirror", "only_here"),
    [
        ("RankResponse", frontrow_client.Ranking, {"code_version", "attempts"}),
        ("RankedActivity", frontrow_client.RankedActivity, set()),
        ("ModelVersion", frontrow_client.ModelVersion, set()),
        ("Explanation", frontrow_client.Explanation, set()),
        ("Contribution", frontrow_client.Contribution, set()),
        ("Candidate", frontrow_client.Candidate, set()),
        ("SentEvent", frontrow_client.Event, set()),
        ("Receipt", frontrow_client.Receipt, set()),
        ("ProblemDocument", frontrow_client.Problem, set()),
        ("Fault", frontrow_client.Fault, set()),
    ],
)
def test_every_type_has_the_fields_of_the_document(
    document: dict[str, Any], schema: str, mirror: type, only_here: set[str]
) -> None:
    described = document["components"]["schemas"][schema]["properties"].keys()
    assert {field.name for field in dataclasses.fields(mirror)} - only_here == described


def test_a_ranking_may_be_asked_with_all_that_the_document_has(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/rank"]["post"]
    headers = {one["name"].lower() for one in operation["parameters"] if one["in"] == "header"}
    options = frontrow_client.RankOptions.__annotations__.keys()
    fields = document["components"]["schemas"]["RankRequest"]["properties"].keys() - {"candidates"}
    sent = {"visitor_id", "priority", "request_id", "variant"}
    assert options == fields | sent | {"timeout_seconds"}
    assert headers == {f"x-{name.replace('_', '-')}" for name in sent} | {"x-request-timeout-ms"}
