"""`POST /v1/events` and `DELETE /v1/visitors/{id}`: what is taken, what is refused, and what is counted."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.service import Service
from features import KINDS, Event, StoreReadOnly, StoreUnavailable
from features.events import visitor_key
from features.history import unpack
from features.stores.memory import MemoryStore

VIEW = {"visitor_id": "ada", "activity_id": "A1", "type": "view"}
DAY_MS = 24 * 3_600_000


async def kept(service: Service, visitor: str = "ada") -> list[tuple[int, str]]:
    """Time and kind of what is kept of a visitor, oldest first."""
    (value,) = await service.visitors.store.fetch([visitor_key(visitor)])
    if value is None:
        return []
    history = unpack(value, visitor_key(visitor))
    return [(at, KINDS[kind]) for at, kind in zip(history.at.tolist(), history.kinds.tolist(), strict=True)]


def outcomes(service: Service) -> dict[str, int]:
    families = text_string_to_metric_families(service.metrics.exposition().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == "frontrow_events_total"]
    return {sample.labels["outcome"]: int(sample.value) for sample in samples if sample.value}


async def refusal(client: httpx.AsyncClient, body: Any) -> tuple[int, dict[str, str]]:
    """Status, and message by place."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post("/v1/events", content=content, headers={"Content-Type": "application/json"})
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == response.headers["x-request-id"]
    return response.status_code, {fault["place"]: fault["message"] for fault in document.get("faults", [])}


async def test_one_event_or_a_list_of_them_is_kept(client: httpx.AsyncClient, service: Service) -> None:
    now = service.visitors.now()
    one = await client.post("/v1/events", json=VIEW | {"at": now - 5})
    assert (one.status_code, one.json()) == (202, {"kept": 1, "unknown_activities": [], "too_old": 0})
    more = [VIEW | {"at": now - 3, "type": "click"}, VIEW | {"at": now - 4.0, "type": "booking"}]
    assert (await client.post("/v1/events", json=more)).json()["kept"] == 2
    assert await kept(service) == [(now - 5, "view"), (now - 4, "booking"), (now - 3, "click")]
    assert (await client.post("/v1/events", json=[])).json()["kept"] == 0
    assert outcomes(service) == {"kept": 3}


async def test_an_event_without_a_time_or_from_the_future_is_of_now(
    client: httpx.AsyncClient, service: Service
) -> None:
    before = service.visitors.now()
    for at in ({}, {"at": None}, {"at": before + DAY_MS}):
        assert (await client.post("/v1/events", json=VIEW | at)).status_code == 202
    times = [at for at, _ in await kept(service)]
    assert times
    assert all(before <= at <= service.visitors.now() for at in times)


async def test_an_event_sent_again_is_kept_once(client: httpx.AsyncClient, service: Service) -> None:
    event = VIEW | {"at": service.visitors.now()}
    for _ in range(3):
        assert (await client.post("/v1/events", json=[event, event])).json()["kept"] == 2
    assert len(await kept(service)) == 1


async def test_an_unknown_activity_and_an_old_event_are_kept_out_named_and_counted(
    client: httpx.AsyncClient, service: Service
) -> None:
    stranger = VIEW | {"activity_id": "nobody knows it"}
    old = VIEW | {"at": service.visitors.now() - 31 * DAY_MS}
    answer = (await client.post("/v1/events", json=[VIEW, stranger, stranger, old])).json()
    assert answer == {"kept": 1, "unknown_activities": ["nobody knows it"], "too_old": 1}
    assert len(await kept(service)) == 1
    assert outcomes(service) == {"kept": 1, "unknown_activity": 2, "too_old": 1}


async def test_every_fault_has_its_place_and_nothing_of_the_body_is_kept(
    client: httpx.AsyncClient, service: Service
) -> None:
    body = [
        VIEW,
        {"visitor_id": "a b", "activity_id": "", "type": "look", "at": -1},
        {"visitor_id": None, "type": "view", "at": 1.5, "note": "x"},
        "view",
    ]
    status, faults = await refusal(client, body)
    assert status == 422
    assert faults.keys() == {
        "$[1].visitor_id",
        "$[1].activity_id",
        "$[1].type",
        "$[1].at",
        "$[2].visitor_id",
        "$[2]",
        "$[2].at",
        "$[3]",
    }
    assert await kept(service) == []
    assert outcomes(service) == {"invalid": 4}


@pytest.mark.parametrize(
    ("body", "status", "places"),
    [
        (b"{", 400, []),
        (b"\xff", 400, []),
        (b"[" * 100 + b"]" * 100, 422, ["$"]),
        (7, 422, ["$"]),
        (None, 422, ["$"]),
        ({}, 422, ["$"]),
        (VIEW | {"at": "2026-11-23"}, 422, ["$.at"]),
        (VIEW | {"at": 2**45}, 422, ["$.at"]),
        (VIEW | {"visitor_id": "ada\n"}, 422, ["$.visitor_id"]),
        (VIEW | {"visitor_id": "a" * 129}, 422, ["$.visitor_id"]),
        (VIEW | {"activity_id": "a" * 129}, 422, ["$.activity_id"]),
    ],
)
async def test_what_is_no_event_is_refused_with_its_place(
    client: httpx.AsyncClient, body: Any, status: int, places: list[str]
) -> None:
    answered, faults = await refusal(client, body)
    assert (answered, list(faults)) == (status, places)


async def test_more_events_or_bytes_than_are_allowed_are_413(client: httpx.AsyncClient, service: Service) -> None:
    limit = service.settings.max_events
    assert (await client.post("/v1/events", json=[VIEW] * limit)).status_code == 202
    assert await refusal(client, [VIEW] * (limit + 1)) == (413, {})
    assert await refusal(client, [{}] * (limit + 1)) == (413, {})
    assert await refusal(client, b" " * (service.settings.max_body_bytes + 1)) == (413, {})


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}])
async def test_what_is_not_plain_json_is_415(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post(
        "/v1/events", content=json.dumps(VIEW), headers={"Content-Type": "application/json"} | headers
    )
    assert (response.status_code, response.json()["type"]) == (415, "urn:frontrow:unsupported-media-type")


class BrokenStore(MemoryStore):
    """Takes nothing."""

    def __init__(self, error: StoreUnavailable) -> None:
        super().__init__()
        self.error = error

    async def append(self, events: Sequence[Event]) -> None:
        raise self.error

    async def delete(self, visitor: bytes) -> None:
        raise self.error


async def test_a_store_that_is_gone_is_503_and_says_nothing_of_the_inside(
    client: httpx.AsyncClient, service: Service
) -> None:
    service.visitors.store = BrokenStore(StoreUnavailable("Redis: the secret of the inside"))
    for response in (await client.post("/v1/events", json=[VIEW, VIEW]), await client.delete("/v1/visitors/ada")):
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["type"] == "urn:frontrow:store-unavailable"
        assert "secret" not in response.text
    assert outcomes(service) == {"refused": 2}


async def test_a_store_that_others_write_is_501(client: httpx.AsyncClient, service: Service) -> None:
    service.visitors.store = BrokenStore(StoreReadOnly("somebody else writes here"))
    for response in (await client.post("/v1/events", json=VIEW), await client.delete("/v1/visitors/ada")):
        assert (response.status_code, response.json()["detail"]) == (501, "somebody else writes here")


async def test_a_visitor_who_is_deleted_is_a_new_one(client: httpx.AsyncClient, service: Service) -> None:
    await client.post("/v1/events", json=VIEW | {"visitor_id": "ada@home:1"})
    assert len(await kept(service, "ada@home:1")) == 1
    for _ in range(2):
        response = await client.delete("/v1/visitors/ada@home:1")
        assert (response.status_code, response.content) == (204, b"")
        assert await kept(service, "ada@home:1") == []


async def test_an_id_that_no_visitor_can_have_is_422(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1/visitors/a%20b")
    assert (response.status_code, response.json()["faults"][0]["place"]) == (422, "path visitor_id")


async def test_other_methods_are_405_and_say_what_is_allowed(client: httpx.AsyncClient) -> None:
    for path, allowed in (("/v1/events", "POST"), ("/v1/visitors/ada", "DELETE")):
        response = await client.get(path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
