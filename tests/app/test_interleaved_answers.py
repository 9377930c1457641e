"""Where the experiment interleaves, its visitors see both models in one answer."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from served import running
from test_canary_metrics import samples

from app.experiment import Assignment, Experiment
from app.interleaving import InterleavingRoute
from app.rank_route import RankRoute
from app.routes import Application
from app.service import Service
from app.settings import Settings
from features.events import visitor_key
from monitoring.exposures import EXPOSURES, Exposure
from monitoring.interleaving import team_draft
from monitoring.journal import Reader
from monitoring.ranking_log import KIND, LoggedRanking
from monitoring.replay import replay, summary
from registry import load_model

IDS = [f"A{n}" for n in range(40)]
BODY = {"context": {"device": "mobile", "days_to_trip": 3}, "candidates": IDS}
Running = tuple[Service, httpx.AsyncClient]


@pytest.fixture
def interleaving(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={
            "assignment": "interleave",
            "treatment_share": 1.0,
            "log_folder": tmp_path / "logs",
            "ranking_log_share": 1.0,
        }
    )


@pytest.fixture
async def both(interleaving: Settings) -> AsyncIterator[Running]:
    async with running(interleaving) as found:
        yield found


async def rank(client: httpx.AsyncClient, body: object = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/rank", json=BODY if body is None else body, headers=named)


def ids(response: httpx.Response) -> list[str]:
    return [one["id"] for one in response.json()["ranking"]]


def scores(response: httpx.Response) -> dict[str, float]:
    return {one["id"]: one["score"] for one in response.json()["ranking"]}


def exposures(tmp_path: Path) -> list[Exposure]:
    return list(Reader(tmp_path / "logs", EXPOSURES, Exposure))


def failing(service: Service, monkeypatch: pytest.MonkeyPatch, *variants: str) -> None:
    def fail(*_: object) -> np.ndarray:
        raise RuntimeError("no scores today")

    for variant in variants:
        monkeypatch.setattr(service.rankers[variant].scorer.catalog, "score", fail)  # type: ignore[index]


async def test_an_answer_is_the_draft_of_both_models_rankings(both: Running) -> None:
    _, client = both
    control, treatment = [await rank(client, x_variant=name) for name in ("control", "treatment")]
    answer = await rank(client, x_visitor_id="ada", x_request_id="first")
    draft = team_draft(ids(control), ids(treatment), "first")
    assert ids(answer) == draft.order
    assert ids(control) != draft.order != ids(treatment)
    of_team = {"control": scores(control), "treatment": scores(treatment)}
    assert scores(answer) == {one: of_team[team][one] for one, team in zip(*draft, strict=True)}
    assert [one["position"] for one in answer.json()["ranking"]] == list(range(1, 41))


async def test_the_answer_says_that_it_is_of_both(both: Running) -> None:
    _, client = both
    answer = await rank(client, x_visitor_id="ada")
    assert answer.headers["x-variant"] == answer.json()["variant"] == "interleaved"
    assert answer.json()["assignment"] == "hash"
    assert answer.headers["x-model-version"] == "activity-ranker+activity-ranker/1+2"
    assert answer.json()["model"] == {"name": "activity-ranker+activity-ranker", "version": "1+2"}
    experiment = (await client.get("/v1/experiment")).json()
    assert (experiment["assignment"], experiment["running"]) == ("interleave", True)


async def test_the_same_request_id_gets_the_same_answer_and_another_one_another(both: Running) -> None:
    _, client = both
    first, again, other = [ids(await rank(client, x_visitor_id="ada", x_request_id=name)) for name in ("a", "a", "b")]
    assert first == again != other
    assert sorted(first) == sorted(other)


async def test_each_model_has_every_place_as_often_as_the_other_one(both: Running, tmp_path: Path) -> None:
    service, client = both
    requests = 400
    for number in range(requests):
        await rank(client, BODY | {"top_k": 9}, x_visitor_id=f"v{number % 7}", x_request_id=f"r-{number}")
    await service.stop()
    teams = np.array([one.teams for one in exposures(tmp_path)]) == "control"
    assert teams.shape == (requests, 9)
    assert np.abs(teams.sum(axis=0) - requests / 2).max() < 4 * np.sqrt(requests / 4)


async def test_the_exposure_log_says_which_model_picked_what_every_time(both: Running, tmp_path: Path) -> None:
    service, client = both
    answers = [ids(await rank(client, BODY | {"top_k": 5}, x_visitor_id="ada", x_request_id=name)) for name in "ab"]
    own = {name: ids(await rank(client, x_variant=name, x_visitor_id="ada")) for name in ("control", "treatment")}
    await service.stop()
    logged = [one for one in exposures(tmp_path) if one.variant == "interleaved"]
    assert [one.order for one in logged] == answers
    assert all(one.unit == visitor_key("ada").hex() and one.reason == "hash" for one in logged)
    for one, name in zip(logged, "ab", strict=True):
        draft = team_draft(own["control"][:5], own["treatment"][:5], name)
        assert (one.order, one.teams) == (draft.order[:5], draft.teams[:5])


async def test_both_rankings_are_logged_and_replayed_to_the_last_bit(
    both: Running, bundles: Path, tmp_path: Path
) -> None:
    service, client = both
    for number in range(5):
        await rank(client, x_visitor_id=f"v{number}")
    await service.stop()
    logged = list(Reader(tmp_path / "logs", KIND, LoggedRanking))
    for name in ("control", "treatment"):
        own = [one for one in logged if one.variant == name]
        assert len(own) == 5
        assert summary(replay(own, load_model(bundles / name, "reference"))).differ == 0


@pytest.mark.parametrize(("lost", "left"), [("control", "treatment"), ("treatment", "control")])
async def test_where_one_model_fails_the_other_one_ranks_alone(
    both: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, left: str
) -> None:
    service, client = both
    alone = await rank(client, x_variant=left)
    failing(service, monkeypatch, lost)
    answer = await rank(client, x_visitor_id="ada")
    assert answer.status_code == 200
    assert answer.json()["ranking"] == alone.json()["ranking"]
    assert answer.headers["x-model-version"] == alone.headers["x-model-version"]
    assert answer.headers["x-variant"] == "interleaved"
    assert samples(service, "frontrow_interleaved_alone_total") == {(lost,): 1, (left,): 0}
    await service.stop()
    (logged,) = exposures(tmp_path)
    assert not logged.order
    assert not logged.teams


async def test_where_both_models_fail_it_is_a_defect_like_any_other(
    both: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, client = both
    failing(service, monkeypatch, "control", "treatment")
    answer = await rank(client, x_visitor_id="ada")
    assert answer.status_code == 500
    assert samples(service, "frontrow_requests_total")["error", "interleaved"] == 1
    assert set(samples(service, "frontrow_interleaved_alone_total").values()) == {0}


async def test_whoever_is_not_in_the_experiment_is_answered_by_one_model(both: Running) -> None:
    service, client = both
    nobody, forced = await rank(client), await rank(client, x_visitor_id="ada", x_variant="treatment")
    assert (nobody.headers["x-variant"], nobody.json()["assignment"]) == ("control", "fallback")
    assert (forced.headers["x-variant"], forced.json()["assignment"]) == ("treatment", "forced")
    assert samples(service, "frontrow_requests_total")["ok", "interleaved"] == 0


def test_the_same_visitors_are_in_the_experiment_as_in_a_split() -> None:
    facts: dict[str, Any] = {
        "name": "ranker",
        "salt": "frontrow",
        "treatment_share": 0.3,
        "fallback": "control",
        "forcing_allowed": False,
        "has_treatment": True,
    }
    split, interleaved = Experiment(**facts), Experiment(**facts, treated="interleaved")
    for number in range(500):
        before, now = split.assign(f"v{number}"), interleaved.assign(f"v{number}")
        assert now == (before if before.variant == "control" else Assignment("interleaved", "hash"))


async def test_what_was_offered_is_what_was_answered(both: Running) -> None:
    service, client = both
    for body in (BODY, {"candidates": []}, {"candidates": ["A1", "A1"]}, {"candidates": ["no such"]}):
        await rank(client, body, x_visitor_id="ada")
    found = samples(service, "frontrow_requests_total")
    assert (found["ok", "interleaved"], found["invalid", "interleaved"]) == (3, 1)
    assert samples(service, "frontrow_requests_offered_total")["interleaved",] == 4
    for lane in service.batcher.stats().lanes.values():
        assert (lane.offered, lane.outcomes) == (2, lane.outcomes | {"ok": 2})


async def test_an_empty_request_gets_an_empty_ranking(both: Running) -> None:
    answer = await rank(both[1], {"candidates": []}, x_visitor_id="ada")
    assert (answer.status_code, answer.json()["ranking"]) == (200, [])


async def test_who_leaves_leaves_both_lanes(interleaving: Settings) -> None:
    async with running(interleaving) as (service, _):
        headers = [(b"content-type", b"application/json"), (b"x-visitor-id", b"ada")]
        exchange = InterleavingRoute(service).exchange(headers, time.perf_counter(), lambda *_: None)
        exchange.open()
        exchange.rank(msgspec.json.encode(BODY))
        exchange.leave()
        await service.batcher.drain()
        assert samples(service, "frontrow_requests_total")["cancelled", "interleaved"] == 1
        for lane in service.batcher.stats().lanes.values():
            assert (lane.offered, lane.waiting_rows) == (1, 0)


async def test_a_service_that_splits_has_nothing_of_it(service: Service) -> None:
    assert type(Application(service).rank_route) is RankRoute
    assert not [labels for labels in samples(service, "frontrow_requests_total") if "interleaved" in labels]
