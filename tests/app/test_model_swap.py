"""A new model takes the place of the one that serves while rankings go on."""

import asyncio
import gc
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from changing_models import BODY, CANDIDATES, lead, rank, samples, scores, scores_of, version
from served import running

from app.settings import Settings
from registry import load_model
from training.profile import profile


@pytest.fixture
def links(bundles: Path, tmp_path: Path) -> dict[str, Path]:
    """What the variants serve, by links that may lead elsewhere."""
    links = {variant: tmp_path / variant for variant in ("control", "treatment")}
    for variant, link in links.items():
        lead(link, bundles / variant)
    return links


@pytest.fixture
def linked(settings: Settings, links: dict[str, Path]) -> Settings:
    return settings.model_copy(update={f"{variant}_model": str(link) for variant, link in links.items()})


@pytest.fixture(scope="session")
def third(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 3: treatment's model, which wants a feature less than control's."""
    return version(bundles / "treatment", tmp_path_factory.mktemp("third") / "bundle", "3")


async def test_a_new_version_is_what_ranks_and_what_everybody_names(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    async with running(linked) as (service, client):
        assert scores(await rank(client)) == scores_of(bundles / "control")
        document = (await client.get("/openapi.json")).json()
        lead(links["control"], third)
        await service.model_watch.look()

        answer = await rank(client)
        assert answer["model"] == {"name": "activity-ranker", "version": "3"}
        assert scores(answer) == scores_of(third)
        described = (await client.get("/v1/models")).json()["models"][0]
        assert (described["version"], described["kept"], described["refused"]) == ("3", "activity-ranker/1", None)
        assert described["swap"]["replaced"] == "activity-ranker/1"
        assert described["swap"]["result"] == "swapped"
        assert described["swap"]["drift"]["compared"] == 1
        assert -1 <= described["swap"]["drift"]["kendall_tau"] < 1
        assert (await client.get("/version")).json()["models"][0]["run_id"] == "run-3"
        info = samples(service, "frontrow_model_info")
        assert [labels.split('version="')[1][0] for labels in sorted(info) if 'variant="control"' in labels] == ["3"]
        assert len(samples(service, "frontrow_golden_info")) == 2
        assert samples(service, "frontrow_model_swaps_total")['{result="swapped",variant="control"}'] == 1
        tau = samples(service, "frontrow_model_swap_kendall_tau")['{variant="control"}']
        assert tau == described["swap"]["drift"]["kendall_tau"]
        assert (await client.get("/openapi.json")).json() == document
        assert (await client.get("/readyz")).json()["notes"] == []


async def test_requests_may_still_carry_what_only_the_model_before_wanted(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    lead(links["treatment"], third)
    candidates = [{"id": "A1", "features": {"free_cancellation": True, "price": 10}}, "A2"]
    async with running(linked) as (service, client):
        await rank(client, candidates=candidates)
        lead(links["control"], third)
        await service.model_watch.look()
        assert (await rank(client, candidates=candidates))["model"]["version"] == "3"


async def test_both_variants_change_at_one_moment(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path, tmp_path: Path
) -> None:
    fourth = version(bundles / "control", tmp_path / "fourth", "4")
    async with running(linked) as (service, _):
        seen: list[tuple[str, ...]] = []
        use = service.batcher.swap

        def swap(lane: str, new: Any) -> None:
            use(lane, new)
            asyncio.get_running_loop().call_soon(
                lambda: seen.append(tuple(one.model.bundle.version for one in service.served.values()))
            )

        service.batcher.swap = swap  # type: ignore[method-assign] # as it is, and says when
        lead(links["control"], third)
        lead(links["treatment"], fourth)
        await service.model_watch.look()
        await asyncio.sleep(0)
        assert set(seen) == {("3", "4")}


async def test_both_variants_may_serve_the_same_model(linked: Settings, links: dict[str, Path], bundles: Path) -> None:
    async with running(linked) as (service, client):
        lead(links["control"], bundles / "treatment")  # as when the challenger has won
        await service.model_watch.look()
        answers = [await rank(client, variant) for variant in ("control", "treatment")]
        assert [answer["model"]["version"] for answer in answers] == ["2", "2"]
        assert scores(answers[0]) == scores(answers[1]) == scores_of(bundles / "treatment")


async def test_the_model_before_returns_without_being_loaded(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    async with running(linked) as (service, client):
        first, scorer = service.served["control"].model, service.rankers["control"].scorer
        for folder in (third, bundles / "control"):
            lead(links["control"], folder)
            await service.model_watch.look()
        assert service.served["control"].model is first
        assert service.rankers["control"].scorer is scorer
        assert scores(await rank(client)) == scores_of(bundles / "control")
        described = service.describe_models()[0]
        assert (described["swap"]["result"], described["kept"]) == ("returned", "activity-ranker/3")
        assert samples(service, "frontrow_model_swaps_total")['{result="returned",variant="control"}'] == 1


async def test_the_model_before_returns_over_the_catalog_of_now(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "catalog.parquet"
    shutil.copy(bundles / "catalog.parquet", snapshot)
    settings = linked.model_copy(update={"catalog": snapshot, "catalog_poll_seconds": 3_600})
    async with running(settings) as (service, client):
        first = service.served["control"].model
        lead(links["control"], third)
        await service.model_watch.look()
        snapshot.with_suffix(".new").write_bytes(snapshot.read_bytes())
        snapshot.with_suffix(".new").replace(snapshot)
        assert service.catalog_watch is not None
        await service.catalog_watch.look()
        lead(links["control"], bundles / "control")
        await service.model_watch.look()
        assert service.served["control"].model is first
        assert service.served["control"].catalog is service.served["treatment"].catalog
        assert scores(await rank(client)) == scores_of(bundles / "control")


async def test_a_bundle_that_is_the_same_elsewhere_changes_nothing(
    linked: Settings, links: dict[str, Path], bundles: Path, tmp_path: Path
) -> None:
    async with running(linked) as (service, _):
        first = service.served["control"].model
        lead(links["control"], Path(shutil.copytree(bundles / "control", tmp_path / "copy")))
        await service.model_watch.look()
        assert service.served["control"].model is first
        assert not any(samples(service, "frontrow_model_swaps_total").values())


async def test_every_answer_is_of_the_one_version_that_it_names_and_none_is_lost(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    expected = {"1": scores_of(bundles / "control"), "3": scores_of(third)}
    settings = linked.model_copy(update={"max_batch_rows": 16})  # so that each request is scored in pieces
    async with running(settings) as (service, client):
        over = False

        async def keep_ranking() -> list[str]:
            versions = []
            while not over:
                answer = await rank(client)
                assert scores(answer) == expected[answer["model"]["version"]]
                versions.append(answer["model"]["version"])
            return versions

        callers = [asyncio.create_task(keep_ranking()) for _ in range(4)]
        for folder in (third, bundles / "control") * 4:
            lead(links["control"], folder)
            await service.model_watch.look()
            await rank(client)
        over = True
        answered = [one for versions in await asyncio.gather(*callers) for one in versions]
        assert set(answered) == {"1", "3"}


async def test_a_request_that_waited_over_a_swap_is_explained_by_the_model_that_scored_it(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    async with running(linked) as (service, client):

        async def ask() -> dict[str, Any]:
            return await rank(client, explain=True)

        waiting = [asyncio.create_task(ask()) for _ in range(4)]
        for folder in (third, bundles / "control", third):
            lead(links["control"], folder)
            await service.model_watch.look()
            waiting.append(asyncio.create_task(ask()))
        answers = await asyncio.gather(*waiting)
    assert any("explanations" in answer for answer in answers)
    for answer in answers:
        found = scores(answer)
        for one in answer.get("explanations", ()):
            total = one["base"] + sum(each["contribution"] for each in one["features"]) + one["others"]
            assert total == pytest.approx(found[one["id"]], abs=1e-9)


async def test_explanations_need_no_folder_any_more(
    linked: Settings, links: dict[str, Path], bundles: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundles / "control", tmp_path / "gone"))
    lead(links["control"], folder)
    async with running(linked) as (_, client):
        shutil.rmtree(folder)
        assert (await rank(client, explain=True))["explanations"]


async def test_looks_that_are_asked_for_at_once_are_one_and_never_two_at_a_time(linked: Settings) -> None:
    async with running(linked) as (service, _):
        looks, at_once, most = 0, 0, 0
        looked, go_on = asyncio.Event(), asyncio.Event()
        watch = service.model_watch

        async def look() -> None:
            nonlocal looks, at_once, most
            looks, at_once = looks + 1, at_once + 1
            most = max(most, at_once)
            looked.set()
            await go_on.wait()
            at_once -= 1

        watch.look = look  # type: ignore[method-assign] # one that takes as long as we say
        watch.look_soon()
        await looked.wait()
        looked.clear()
        for _ in range(5):
            watch.look_soon()  # behind its back: one more look has to follow
        go_on.set()
        await looked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (looks, most) == (2, 1)


async def test_models_are_looked_at_again_and_again_where_that_is_asked_for(
    linked: Settings, links: dict[str, Path], third: Path
) -> None:
    async with running(linked.model_copy(update={"model_poll_seconds": 0.01})) as (_, client), asyncio.timeout(30):
        lead(links["control"], third)
        while (await rank(client))["model"]["version"] != "3":
            pass


async def test_a_refused_model_is_tried_once_more_when_somebody_tells_us_to_look(
    linked: Settings, links: dict[str, Path], bundles: Path, tmp_path: Path
) -> None:
    async with running(linked) as (service, client), asyncio.timeout(30):
        lead(links["control"], tmp_path / "nowhere")
        for _ in range(2):
            await service.model_watch.look()
        refused = '{result="refused",variant="control"}'
        assert samples(service, "frontrow_model_swaps_total")[refused] == 1
        service.model_watch.look_soon()
        while samples(service, "frontrow_model_swaps_total")[refused] < 2:
            await rank(client)


async def test_a_model_that_ranks_too_unlike_is_refused_where_that_is_asked_for(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path
) -> None:
    async with running(linked.model_copy(update={"swap_min_kendall_tau": 0.9999})) as (service, client):
        await rank(client)
        lead(links["control"], third)
        await service.model_watch.look()
        assert "FRONTROW_SWAP_MIN_KENDALL_TAU is 0.9999" in service.model_watch.refused()["control"]
        assert (await rank(client))["model"]["version"] == "1"


async def test_where_an_agreement_is_asked_for_a_model_that_nobody_can_compare_is_refused(
    linked: Settings, links: dict[str, Path], third: Path
) -> None:
    async with running(linked.model_copy(update={"swap_min_kendall_tau": -1.0})) as (service, client):
        lead(links["control"], third)
        await service.model_watch.look()
        assert "is not known, over 0 rankings" in service.model_watch.refused()["control"]
        await rank(client)
        service.model_watch.look_soon()
        async with asyncio.timeout(30):
            while (await rank(client))["model"]["version"] != "3":
                pass


async def test_models_of_the_same_features_are_compared_on_golden_rows_too(
    linked: Settings, links: dict[str, Path], bundles: Path, tmp_path: Path
) -> None:
    async with running(linked) as (service, _):
        lead(links["control"], version(bundles / "control", tmp_path / "again", "3"))
        await service.model_watch.look()
        drift = service.describe_models()[0]["swap"]["drift"]
        assert drift == {"compared": 2, "kendall_tau": pytest.approx(1.0), "top_overlap": 1.0}


async def test_a_model_that_looks_at_histories_takes_the_place_of_one_that_does_not(
    linked: Settings, links: dict[str, Path], history_bundles: Path, bundles: Path
) -> None:
    body = {"context": BODY["context"], "candidates": CANDIDATES}
    async with running(linked) as (service, client):
        await rank(client)
        await client.post("/v1/events", json={"visitor_id": "ada", "activity_id": "A1", "type": "view"})
        for folder, name in ((history_bundles / "pairs", "pairs"), (bundles / "control", "1")):
            lead(links["control"], folder)
            await service.model_watch.look()
            answer = await client.post("/v1/rank", json=body, headers={"X-Variant": "control", "X-Visitor-Id": "ada"})
            assert answer.json()["model"]["version"] == name
            assert service.describe_models()[0]["swap"]["drift"]["compared"] == 1


async def test_a_new_model_has_its_own_drift(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path, tmp_path: Path
) -> None:
    def watched(number: str) -> Path:
        model = load_model(bundles / "control", "reference").bundle
        golden = model.golden()
        known = msgspec.json.encode(profile(model.features, golden.rows, golden.scores))
        return version(bundles / "control", tmp_path / f"watched{number}", number, profile=known)

    lead(links["control"], watched("5"))
    async with running(linked) as (service, client):
        scorer = service.rankers["control"].scorer
        assert service.onlooker.drift()["control"].model == "activity-ranker/5"
        lead(links["control"], watched("6"))
        await service.model_watch.look()
        assert scorer.watch is None
        assert service.onlooker.drift()["control"].model == "activity-ranker/6"
        lead(links["control"], third)  # which has no profile
        await service.model_watch.look()
        assert "control" not in (await client.get("/v1/drift")).json()


async def test_a_model_that_is_no_more_kept_is_gone_from_memory(
    linked: Settings, links: dict[str, Path], bundles: Path, third: Path, tmp_path: Path
) -> None:
    async with running(linked) as (service, client):
        await rank(client)
        first = weakref.ref(service.served["control"].model)
        lead(links["control"], third)
        await service.model_watch.look()
        assert first() is not None
        lead(links["control"], version(bundles / "control", tmp_path / "fourth", "4"))
        await service.model_watch.look()
        await rank(client)
        service.onlooker.recent.clear()
        gc.collect()
        assert first() is None


async def test_an_answer_of_both_models_names_the_two_that_made_it(
    linked: Settings, links: dict[str, Path], third: Path
) -> None:
    settings = linked.model_copy(update={"assignment": "interleave", "treatment_share": 1.0})

    async def version_of(client: httpx.AsyncClient) -> str:
        answer = await client.post("/v1/rank", json=BODY, headers={"X-Visitor-Id": "ada"})
        assert answer.headers["X-Model-Version"].endswith(answer.json()["model"]["version"])
        found: str = answer.json()["model"]["version"]
        return found

    async with running(settings) as (service, client):
        assert await version_of(client) == "1+2"
        lead(links["treatment"], third)
        await service.model_watch.look()
        assert await version_of(client) == "1+3"


async def test_a_look_that_takes_long_keeps_nobody_from_the_end(linked: Settings) -> None:
    asked, never = asyncio.Event(), threading.Event()
    async with running(linked.model_copy(update={"model_poll_seconds": 0})) as (service, _):
        loop = asyncio.get_running_loop()

        def hang() -> dict[Any, Any]:
            loop.call_soon_threadsafe(asked.set)
            never.wait()
            return {}

        service.model_watch._fetch = hang  # noqa: SLF001 a registry that hangs, without its time limit
        service.model_watch.look_soon()
        await asked.wait()
        async with asyncio.timeout(10):
            await service.model_watch.stop()
    never.set()
