"""What a request allocates dies with it, also when it fails: nothing of it waits for the garbage collector.

The collector hardly ever comes to a service that runs. A circle of references would stay, with whole requests in it.
"""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from changing_models import copy, lead, put
from served import running

from app.score_route import AT_ONCE_BYTES
from app.service import Service
from app.settings import Settings

ROOMS = ("app", "batching", "features", "monitoring", "registry", "scoring")
TIMES = 3
BODY = {"candidates": ["A1", "A2", {"id": "new", "features": {"price": 3.0}}]}
RANK, INVOCATIONS, INFER = "/v1/rank", "/invocations", "/v2/models/activity-ranker/infer"

Ask = Callable[[httpx.AsyncClient], Awaitable[int]]
Garbage = Callable[[], set[str]]


@pytest.fixture
def garbage(no_collector: None) -> Garbage:
    """The types of ours of which something waits for the collector that has become garbage since."""

    def found() -> set[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        types = {type(one) for one in gc.garbage}
        gc.garbage.clear()
        gc.collect()  # and now it goes
        return {one.__qualname__ for one in types if one.__module__.partition(".")[0] in ROOMS}

    return found


def ask(path: str, body: object, **headers: str) -> Ask:
    """Ask the same several times, and then for what works, so that no connection still has the answer before."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}

    async def several(client: httpx.AsyncClient) -> int:
        (status,) = {(await client.post(path, content=content, headers=named)).status_code for _ in range(TIMES)}
        await client.get("/healthz")
        return status

    return several


def failing(service: Service, monkeypatch: pytest.MonkeyPatch, *variants: str) -> None:
    def fail(*_: object) -> None:
        try:
            {}["no scores"]
        except KeyError as error:
            raise RuntimeError("no scores today") from error

    for variant in variants:
        monkeypatch.setattr(service.rankers[variant].scorer.catalog, "score", fail)  # type: ignore[index]


TEXTS = ["no number"] * 7_000
KINDS = {
    "answered": (ask(RANK, BODY), 200),
    "explained": (ask(RANK, BODY | {"explain": True}), 200),
    "no json": (ask(RANK, b"{"), 400),
    "faults": (ask(RANK, BODY | {"top_k": -1, "context": {"device": 3}}), 422),
    "too many": (ask(RANK, {"candidates": [f"A{n}" for n in range(20_000)]}), 413),
    "another media type": (ask(RANK, BODY, Content_Type="text/plain"), 415),
    "garbled header": (ask(RANK, BODY, X_Priority="first"), 422),
    "faulty rows": (ask(INVOCATIONS, {"dataframe_split": {"columns": ["price"], "data": [["dear"]]}}), 400),
    "many faulty rows": (
        ask(INVOCATIONS, {"dataframe_split": {"columns": ["price"], "data": [[text] for text in TEXTS]}}),
        400,
    ),
    "many faulty tensors": (
        ask(INFER, {"inputs": [{"name": "x", "shape": [7_000], "datatype": "FP32", "data": TEXTS}]}),
        400,
    ),
    "faulty event": (ask("/v1/events", {"visitor_id": "ada"}), 422),
}


@pytest.mark.parametrize(("asked", "status"), KINDS.values(), ids=KINDS)
async def test_an_answer_leaves_nothing(client: httpx.AsyncClient, garbage: Garbage, asked: Ask, status: int) -> None:
    assert len(json.dumps(TEXTS)) > AT_ONCE_BYTES  # else they were not read in another thread
    await ask(RANK, BODY)(client)
    garbage()
    assert await asked(client) == status
    assert garbage() == set()


async def test_rankings_that_fail_leave_nothing(
    service: Service, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, garbage: Garbage
) -> None:
    failing(service, monkeypatch, "control")
    assert await ask(RANK, BODY)(client) == 500
    names = [feature.name for feature in service.served["control"].model.bundle.features]
    whole_rows = {"dataframe_split": {"columns": names, "data": [[None] * len(names)]}}
    assert await ask(INVOCATIONS, whole_rows)(client) == 500
    crowd = await asyncio.gather(*(client.post(RANK, json=BODY) for _ in range(40)))  # scored together, and taken apart
    assert {answer.status_code for answer in crowd} == {500}
    await asyncio.gather(*(client.get("/healthz") for _ in range(40)))
    assert garbage() == set()


async def test_explanations_that_fail_leave_nothing(
    service: Service, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, garbage: Garbage
) -> None:
    monkeypatch.setattr(service.explainer, "_engine", lambda _: None)  # it has no contributions
    assert await ask(RANK, BODY | {"explain": True})(client) == 500
    assert garbage() == set()


@pytest.mark.parametrize(
    ("lost", "status"), [(["control"], 200), (["treatment"], 200), (["control", "treatment"], 500)], ids=str
)
async def test_rankings_of_both_models_that_fail_leave_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, garbage: Garbage, lost: list[str], status: int
) -> None:
    interleaving = {"assignment": "interleave", "treatment_share": 1.0}
    async with running(settings.model_copy(update=interleaving)) as (service, client):
        garbage()
        failing(service, monkeypatch, *lost)
        assert await ask(RANK, BODY, X_Visitor_Id="ada")(client) == status
        assert garbage() == set()


async def test_what_the_shadow_cannot_score_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, garbage: Garbage
) -> None:
    async with running(settings.model_copy(update={"shadow_share": 1.0})) as (service, client), asyncio.timeout(30):
        garbage()
        failing(service, monkeypatch, "treatment")
        await ask(RANK, BODY)(client)
        while not service.metrics.traffic.shadow_refused._value.get():  # noqa: SLF001, ASYNC110 nothing else tells
            await asyncio.sleep(0.01)
        assert garbage() == set()


@pytest.mark.parametrize("damage", ["unreadable", "wrong scores"])
async def test_models_that_are_refused_leave_nothing(
    settings: Settings, bundles: Path, tmp_path: Path, garbage: Garbage, damage: str
) -> None:
    link, bad = tmp_path / "control", copy(bundles / "control", tmp_path / "bad")
    lead(link, bundles / "control")
    if damage == "unreadable":
        (bad / "model.lgb").unlink()
    else:
        golden = json.loads((bad / "golden.json").read_bytes())
        golden["scores"][0] += 1
        put(bad, "golden.json", json.dumps(golden).encode())
    async with running(settings.model_copy(update={"control_model": str(link)})) as (service, _):
        garbage()
        lead(link, bad)
        await service.model_watch.look()
        assert service.model_watch.refused()
        assert garbage() == set()


async def test_models_that_change_leave_nothing(
    settings: Settings, bundles: Path, tmp_path: Path, garbage: Garbage
) -> None:
    link, other = tmp_path / "control", copy(bundles / "control", tmp_path / "other")
    lead(link, bundles / "control")
    async with running(settings.model_copy(update={"control_model": str(link)})) as (service, client):
        await ask(RANK, BODY)(client)
        garbage()
        for folder in (other, bundles / "control", other):
            lead(link, folder)
            await service.model_watch.look()
            await ask(RANK, BODY)(client)
        assert service.served["control"].model.bundle.version == "9"
        assert garbage() == set()
