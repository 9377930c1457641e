"""Everything that may be wrong with a new version: it is refused by name, once, and the one before it serves on."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from changing_models import copy, describe, lead, put, rank, samples, scores, scores_of, version
from served import running, serving

from app.models import load_models
from app.processing import Processing
from app.service import Service
from app.settings import Settings
from registry import Feature, Fetched
from registry.cache import BundleCache, Question
from registry.fetch import Origin
from registry.signature import read_features

Damage = Callable[[Path, Path], None]


@pytest.fixture
def link(bundles: Path, tmp_path: Path) -> Path:
    """What control serves: version 1, by a link that may lead elsewhere."""
    link = tmp_path / "control"
    lead(link, bundles / "control")
    return link


@pytest.fixture
def linked(settings: Settings, link: Path) -> Settings:
    return settings.model_copy(update={"control_model": str(link)})


def replaced(folder: Path, before: bytes, after: bytes) -> None:
    """Other model text, with its digest."""
    text = (folder / "model.lgb").read_bytes()
    assert before in text
    put(folder, "model.lgb", text.replace(before, after))


def features(folder: Path, change: Callable[[Feature], Feature]) -> None:
    said = json.loads((folder / "bundle.json").read_bytes())["features"]
    changed = [change(feature) for feature in read_features(json.dumps(said).encode())]
    describe(folder, features=[vars(feature) for feature in changed], example=[])


def golden(folder: Path, change: Callable[[dict], None]) -> None:
    document = json.loads((folder / "golden.json").read_bytes())
    change(document)
    put(folder, "golden.json", json.dumps(document).encode())


def other(which: str, **changes: object) -> Callable[[Feature], Feature]:
    return lambda feature: replace(feature, **changes) if feature.name == which else feature  # type: ignore[arg-type]


def _garbage(folder: Path, _: Path) -> None:
    (folder / "bundle.json").write_bytes(b"\x00\xff{")


def _unknown_field(folder: Path, _: Path) -> None:
    describe(folder, owner="me")


def _newer_format(folder: Path, _: Path) -> None:
    describe(folder, format=2)


def _wrong_digest(folder: Path, _: Path) -> None:
    said = json.loads((folder / "bundle.json").read_bytes())
    describe(folder, files=said["files"] | {"model.lgb": "0" * 64})


def _changed_byte(folder: Path, _: Path) -> None:
    text = (folder / "model.lgb").read_bytes()
    (folder / "model.lgb").write_bytes(text.replace(b"leaf_value=", b"leaf_value=1", 1))


def _cut_text(folder: Path, _: Path) -> None:
    put(folder, "model.lgb", (folder / "model.lgb").read_bytes()[:3_000])


def _empty_text(folder: Path, _: Path) -> None:
    put(folder, "model.lgb", b"")


def _endless_tree(folder: Path, _: Path) -> None:
    text = (folder / "model.lgb").read_bytes()
    start = text.index(b"left_child=") + len(b"left_child=")
    put(folder, "model.lgb", text[:start] + b"0" + text[text.index(b" ", start) :])


def _leaf_that_is_no_number(folder: Path, _: Path) -> None:
    text = (folder / "model.lgb").read_bytes()
    start = text.index(b"leaf_value=") + len(b"leaf_value=")
    put(folder, "model.lgb", text[:start] + b"nan" + text[text.index(b" ", start) :])


def _another_objective(folder: Path, _: Path) -> None:
    replaced(folder, b"objective=lambdarank", b"objective=binary sigmoid:1")


def _more_classes(folder: Path, _: Path) -> None:
    replaced(folder, b"num_class=1", b"num_class=3")


def _number_of_trees(folder: Path, _: Path) -> None:
    describe(folder, trees=11)


def _no_trees(folder: Path, _: Path) -> None:
    text = (folder / "model.lgb").read_bytes()
    put(folder, "model.lgb", text[: text.index(b"Tree=0")] + text[text.index(b"end of trees") :])


def _missing_model(folder: Path, _: Path) -> None:
    (folder / "model.lgb").unlink()


def _missing_golden(folder: Path, _: Path) -> None:
    said = json.loads((folder / "bundle.json").read_bytes())
    del said["files"]["golden.json"]
    describe(folder, files=said["files"])
    (folder / "golden.json").unlink()


def _stray_file(folder: Path, _: Path) -> None:
    (folder / "model.pkl").write_bytes(b"")


def _link_for_a_file(folder: Path, bundles: Path) -> None:
    (folder / "model.lgb").unlink()
    (folder / "model.lgb").symlink_to(bundles / "control" / "model.lgb")


def _wrong_golden_score(folder: Path, _: Path) -> None:
    golden(folder, lambda document: document["scores"].__setitem__(3, document["scores"][3] + 1e-9))


def _golden_score_that_is_no_number(folder: Path, _: Path) -> None:
    golden(folder, lambda document: document["scores"].__setitem__(3, None))


def _no_golden_rows(folder: Path, _: Path) -> None:
    golden(folder, lambda document: document.update(rows=[], scores=[]))


def _golden_rows_of_another_model(folder: Path, bundles: Path) -> None:
    put(folder, "golden.json", (bundles / "treatment" / "golden.json").read_bytes())


def _text_of_another_model(folder: Path, _: Path) -> None:
    text = (folder / "model.lgb").read_bytes()
    place = text.index(b".", text.index(b"leaf_value=")) + 1
    put(folder, "model.lgb", text[:place] + (b"2" if text[place] == ord("1") else b"1") + text[place + 1 :])


def _one_feature_too_few(folder: Path, _: Path) -> None:
    said = json.loads((folder / "bundle.json").read_bytes())
    describe(folder, features=said["features"][:-1], example=[])


def _features_in_another_order(folder: Path, _: Path) -> None:
    said = json.loads((folder / "bundle.json").read_bytes())
    describe(folder, features=said["features"][::-1])


def _categories_that_are_not_the_models(folder: Path, _: Path) -> None:
    features(folder, other("device", categories=("desktop", "phone", "tablet")))


def _other_type(folder: Path, _: Path) -> None:
    features(folder, other("price", type="integer"))


def _other_role(folder: Path, _: Path) -> None:
    features(folder, other("rating", role="context"))


def _new_feature(folder: Path, _: Path) -> None:
    replaced(folder, b"rating", b"beauty")
    features(folder, other("rating", name="beauty"))


def _new_category(folder: Path, _: Path) -> None:
    replaced(folder, b'"tablet"', b'"goggle"')
    features(folder, other("device", categories=("desktop", "mobile", "goggle")))


def _unknown_derived_feature(folder: Path, _: Path) -> None:
    replaced(folder, b"rating", b"beauty")
    features(folder, other("rating", name="beauty", role="derived"))


def _damaged_catalog(folder: Path, _: Path) -> None:
    put(folder, "catalog.parquet", b"PAR1 garbage")


def _catalog_of_texts(folder: Path, bundles: Path) -> None:
    table = pa.parquet.read_table(bundles / "catalog.parquet")
    table = table.set_column(table.schema.get_field_index("price"), "price", pa.array(["dear"] * len(table)))
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    put(folder, "catalog.parquet", sink.getvalue().to_pybytes())


def _profile_of_another_model(folder: Path, _: Path) -> None:
    put(folder, "profile.json", b'{"format":1,"rows":1,"features":{},"score":{"missing":0}}')


def _empty_folder(folder: Path, _: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _gone(folder: Path, _: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


KINDS: dict[Damage, str] = {
    _garbage: r"bundle\.json: ",
    _unknown_field: "unknown field `owner`",
    _newer_format: "format is 2 and this version reads format 1",
    _wrong_digest: r"model\.lgb: sha256 is",
    _changed_byte: r"model\.lgb: sha256 is",
    _cut_text: r"model\.lgb: ",
    _empty_text: r"model\.lgb: ",
    _endless_tree: r"model\.lgb: .*tree 0",
    _leaf_that_is_no_number: r"model\.lgb: .*tree 0",
    _another_objective: "objective",
    _more_classes: "class",
    _number_of_trees: r"trees is 11 in bundle\.json and 10 in model\.lgb",
    _no_trees: r"model\.lgb: ",
    _missing_model: r"model\.lgb is missing",
    _missing_golden: r"lists no golden\.json",
    _stray_file: r"model\.pkl is not listed",
    _link_for_a_file: r"model\.lgb cannot be read",
    _wrong_golden_score: "row 3 must score",
    _golden_score_that_is_no_number: r"golden\.json: Expected `float`, got `null`",
    _no_golden_rows: "there are no golden rows",
    _golden_rows_of_another_model: r"golden\.json: row 0 has 6 values and the model 7 features",
    _text_of_another_model: "must score",
    _one_feature_too_few: "7 features and the feature list 6",
    _features_in_another_order: "feature 0 is 'device' in the model and 'free_cancellation'",
    _categories_that_are_not_the_models: "categories of feature 'device'",
    _other_type: "activity feature 'price' as a integer, requests have a number, .* a restart",
    _other_role: "context feature 'rating', which requests do not have here, .* a restart",
    _new_feature: "activity feature 'beauty', which requests do not have here, .* a restart",
    _new_category: r"context feature 'device' with 1 categories .* \('goggle'\), .* a restart",
    _unknown_derived_feature: "derived feature 'beauty'",
    _damaged_catalog: r"catalog\.parquet: not a readable parquet file",
    _catalog_of_texts: "column `price` must hold numbers",
    _profile_of_another_model: r"profile\.json",
    _empty_folder: r"there is no bundle\.json in it",
    _gone: r"there is no bundle\.json in it",
}


@pytest.mark.parametrize("damage", KINDS, ids=lambda damage: damage.__name__.strip("_"))
async def test_a_bad_version_is_refused_once_by_name_and_the_one_before_it_serves_on(
    linked: Settings, link: Path, bundles: Path, tmp_path: Path, damage: Damage
) -> None:
    async with running(linked) as (service, client):
        before = await rank(client)
        damage(copy(bundles / "control", tmp_path / "bad"), bundles)
        lead(link, tmp_path / "bad")
        for _ in range(3):
            await service.model_watch.look()

        (refused,) = [one["refused"] for one in service.describe_models() if one["variant"] == "control"]
        assert re.search(KINDS[damage], refused), refused
        assert samples(service, "frontrow_model_swaps_total")['{result="refused",variant="control"}'] == 1
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["notes"] == [
            f"control serves activity-ranker/1, and what is named in its place is refused: {refused}"
        ]
        after = await rank(client)
        assert (after["model"], after["ranking"]) == (before["model"], before["ranking"])
        assert scores(after) == scores_of(bundles / "control")

        lead(link, bundles / "control")
        await service.model_watch.look()
        assert service.notes() == []


async def test_a_variant_is_not_kept_from_its_new_model_by_a_bad_one_of_the_other(
    linked: Settings, link: Path, bundles: Path, tmp_path: Path
) -> None:
    treatment = tmp_path / "treatment"
    lead(treatment, bundles / "treatment")
    async with running(linked.model_copy(update={"treatment_model": str(treatment)})) as (service, client):
        lead(link, version(bundles / "control", tmp_path / "good", "3"))
        treatment.unlink()
        await service.model_watch.look()
        assert (await rank(client, "control"))["model"]["version"] == "3"
        assert (await rank(client, "treatment"))["model"]["version"] == "2"
        assert list(service.model_watch.refused()) == ["treatment"]


class WithMargin(Processing):
    """Rules that want a number of each candidate."""

    candidate_fields = {"rating": "number", "margin": "number"}  # noqa: RUF012 the type says that it is a class variable


async def test_a_model_that_contradicts_the_rules_is_refused(settings: Settings, bundles: Path, tmp_path: Path) -> None:
    link = tmp_path / "control"
    lead(link, bundles / "control")
    rules = {"control_model": str(link), "processing": "test_model_swap_refused:WithMargin"}
    async with running(settings.model_copy(update=rules)) as (service, _):
        folder = copy(bundles / "control", tmp_path / "bad")
        replaced(folder, b"rating", b"margin")
        features(folder, other("rating", name="margin", type="integer"))
        lead(link, folder)
        await service.model_watch.look()
        assert "'margin' as a integer, requests have a number" in service.model_watch.refused()["control"]


async def test_a_model_that_looks_at_histories_is_refused_where_workers_do_not_share_them(
    settings: Settings, bundles: Path, history_bundles: Path, tmp_path: Path
) -> None:
    link = tmp_path / "control"
    lead(link, bundles / "control")
    workers = {"control_model": str(link), "treatment_model": "", "workers": 2}
    async with running(settings.model_copy(update=workers)) as (service, _):
        lead(link, history_bundles / "visitors")
        await service.model_watch.look()
        assert "FRONTROW_FEATURE_STORE" in service.model_watch.refused()["control"]


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.parametrize("case", [("nobody", "registry"), ("silent", "last-known-good")])
async def test_a_registry_that_is_gone_or_silent_leaves_everything_as_it_is(
    settings: Settings, bundles: Path, tmp_path: Path, request: pytest.FixtureRequest, case: tuple[str, Origin]
) -> None:
    registry, origin = case
    uri, url = "models:/activity-ranker@champion", request.getfixturevalue(registry)
    cache = BundleCache(tmp_path / "cache")
    folder = cache.folder("activity-ranker", "9", run_id="run-control", sha256="0")
    folder.parent.mkdir(parents=True)
    copy(bundles / "control", folder)
    cache.remember(Question(uri, url), folder, datetime.now(UTC))
    changes = {"control_model": uri, "treatment_model": "", "bundle_cache": cache.root, "tracking_uri": url}
    settings = settings.model_copy(update=changes | {"registry_timeout_seconds": 1 if registry == "silent" else 30})
    service = Service(
        settings, load_models(settings, {"control": Fetched(folder, origin, "it was", datetime.now(UTC))})
    )
    await service.start()
    async with serving(service) as client:
        before, notes = await rank(client), service.notes()
        for _ in range(2):
            await service.model_watch.look()
        assert service.notes() == notes
        stands_in = samples(service, "frontrow_model_last_known_good")
        assert stands_in == {'{variant="control"}': float(origin == "last-known-good")}
        assert samples(service, "frontrow_model_swaps_total") == {
            f'{{result="{result}",variant="control"}}': 2.0 * (result == "unreachable")
            for result in ("swapped", "returned", "refused", "unreachable")
        }
        assert (await rank(client))["ranking"] == before["ranking"]
    await service.stop()
