"""A snapshot of activities that is replaced while rankings go on."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from app_models import booster
from history_models import expected_rows
from served import running

from app.models import fetch_models, load_models
from app.service import Service
from app.settings import Settings
from features import NOTHING, Catalog, CatalogError

IDS = [f"A{n}" for n in range(50)]
NEW = [f"N{n}" for n in range(50)]


@pytest.fixture
def snapshot(bundles: Path, tmp_path: Path) -> Path:
    path = tmp_path / "catalog.parquet"
    path.write_bytes((bundles / "catalog.parquet").read_bytes())
    return path


@pytest.fixture
def watching(settings: Settings, bundles: Path, history_bundles: Path, snapshot: Path) -> Settings:
    """Settings of a service that watches the snapshot; one of its models looks at histories."""
    models = {"control_model": str(history_bundles / "pairs"), "treatment_model": str(bundles / "treatment")}
    return settings.model_copy(update=models | {"catalog": snapshot, "catalog_poll_seconds": 3_600})


async def rank(client: httpx.AsyncClient, candidates: list[str], variant: str = "control") -> dict[str, Any]:
    response = await client.post(
        "/v1/rank", json={"candidates": candidates}, headers={"X-Variant": variant, "X-Visitor-Id": "ada"}
    )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def replace(snapshot: Path, table: pa.Table) -> None:
    """As `frontrow catalog build` does: whole, by renaming."""
    pyarrow.parquet.write_table(table, snapshot.with_suffix(".new"))
    snapshot.with_suffix(".new").replace(snapshot)


def renamed(snapshot: Path, ids: list[str]) -> pa.Table:
    """The same activities under other names, twice as dear."""
    table = pa.parquet.read_table(snapshot)
    dearer = pa.compute.multiply(table.column("price"), 2.0)
    return table.set_column(table.schema.get_field_index("price"), "price", dearer).set_column(0, "id", pa.array(ids))


async def look(service: Service) -> None:
    """Look at the snapshot now, and not when it is time."""
    assert service.catalog_watch is not None
    await service.catalog_watch.look()


def refused(service: Service) -> float:
    (line,) = (
        line
        for line in service.metrics.exposition().decode().splitlines()
        if line.startswith("frontrow_catalog_refused_total")
    )
    return float(line.split()[1])


async def test_a_snapshot_of_the_settings_wins_over_those_of_the_bundles(watching: Settings, snapshot: Path) -> None:
    replace(snapshot, renamed(snapshot, NEW))
    async with running(watching) as (service, client):
        assert (await rank(client, NEW))["unknown_candidates"] == []
        assert (await rank(client, IDS[:2]))["unknown_candidates"] == IDS[:2]
        assert 'frontrow_catalog_activities{variant="control"} 50.0' in service.metrics.exposition().decode()


async def test_a_new_snapshot_is_taken_by_every_variant_and_fails_no_ranking(
    watching: Settings, snapshot: Path, history_bundles: Path
) -> None:
    table = renamed(snapshot, NEW)
    async with running(watching) as (service, client):
        answers: list[dict[str, Any]] = []

        async def keep_ranking(variant: str) -> None:
            before = after = 0
            while after < 20:
                answers.append(await rank(client, [*IDS, *NEW], variant))
                if before == 20:
                    enough.set()
                before, after = before + 1, after + service.knows("N1")

        enough = asyncio.Event()
        callers = [asyncio.create_task(keep_ranking(variant)) for variant in ("control", "treatment") * 4]
        await enough.wait()
        replace(snapshot, table)
        await look(service)
        await asyncio.gather(*callers)

        assert {tuple(answer["unknown_candidates"]) for answer in answers} == {tuple(NEW), tuple(IDS)}
        assert all(len(answer["ranking"]) == 100 for answer in answers)
        features = service.served["control"].model.bundle.features
        rows = expected_rows(features, Catalog(table), {"candidates": NEW}, NOTHING, 0)
        expected = booster(history_bundles / "pairs").predict(rows, num_threads=1).tolist()
        got = {one["id"]: one["score"] for one in (await rank(client, NEW))["ranking"]}
        assert [got[one] for one in NEW] == expected


async def test_the_file_is_looked_at_again_and_again(watching: Settings, snapshot: Path) -> None:
    settings = watching.model_copy(update={"catalog_poll_seconds": 0.01})
    async with running(settings) as (service, client), asyncio.timeout(30):
        replace(snapshot, renamed(snapshot, NEW))
        while (await rank(client, NEW))["unknown_candidates"]:
            pass
        assert service.knows("N1")


async def test_a_file_that_is_still_the_same_is_not_loaded_again(watching: Settings) -> None:
    async with running(watching) as (service, _):
        catalog = service.served["control"].catalog
        await look(service)
        assert service.served["control"].catalog is catalog


async def test_events_of_new_activities_count_and_of_old_ones_do_not(watching: Settings, snapshot: Path) -> None:
    async with running(watching) as (service, client):
        replace(snapshot, renamed(snapshot, NEW))
        await look(service)
        events = [{"visitor_id": "ada", "activity_id": one, "type": "view"} for one in ("N1", "A1")]
        receipt = (await client.post("/v1/events", json=events)).json()
        assert (receipt["kept"], receipt["unknown_activities"]) == (1, ["A1"])


def fill_with_garbage(snapshot: Path) -> None:
    snapshot.write_bytes(b"PAR1 garbage")


def empty(snapshot: Path) -> None:
    replace(snapshot, pa.parquet.read_table(snapshot).slice(0, 0))


def remove(snapshot: Path) -> None:
    snapshot.unlink()


def write_texts_for_numbers(snapshot: Path) -> None:
    table = pa.parquet.read_table(snapshot)
    place = table.schema.get_field_index("price")
    replace(snapshot, table.set_column(place, "price", pa.array(["dear"] * len(table))))


@pytest.mark.parametrize("damage", [fill_with_garbage, empty, remove, write_texts_for_numbers])
async def test_a_bad_snapshot_is_refused_once_and_the_one_before_it_serves_on(
    watching: Settings, snapshot: Path, damage: Callable[[Path], None]
) -> None:
    good = renamed(snapshot, NEW)
    async with running(watching) as (service, client):
        before = await rank(client, IDS)
        damage(snapshot)
        for _ in range(3):
            await look(service)
        assert refused(service) == 1
        assert (await rank(client, IDS))["ranking"] == before["ranking"]
        assert (await client.get("/readyz")).status_code == 200
        replace(snapshot, good)
        await look(service)
        assert (await rank(client, NEW))["unknown_candidates"] == []
        assert refused(service) == 1


def test_a_snapshot_that_cannot_be_read_at_the_start_is_refused(watching: Settings, snapshot: Path) -> None:
    snapshot.write_bytes(b"PAR1 garbage")
    with pytest.raises(CatalogError, match=r"catalog\.parquet"):
        load_models(watching, fetch_models(watching))
