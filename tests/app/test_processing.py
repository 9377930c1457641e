"""Rules around the model: what a data scientist can say, and what goes wrong by name."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import serving

from app.models import fetch_models, load_models
from app.processing import Processing, ProcessingError, load_processing
from app.service import Service
from app.settings import Settings

HOUSE = Path(__file__).parents[2]
IDS = [f"A{n}" for n in range(50)]


async def rank_with(settings: Settings, processing: str, body: dict[str, Any]) -> httpx.Response:
    settings = settings.model_copy(update={"processing": processing})
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    try:
        async with serving(service) as client:
            return await client.post("/v1/rank", json=body, headers={"X-Variant": "control"})
    finally:
        await service.stop()


async def ids_with(settings: Settings, processing: str, body: dict[str, Any]) -> list[str]:
    response = await rank_with(settings, processing, body)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()["ranking"]]


DEFAULT = "app.processing:Processing"
MARKETPLACE = "docs.examples.rules:MarketplaceRules"


async def test_a_sold_out_activity_is_never_ranked(settings: Settings) -> None:
    body = {"candidates": [*IDS[:5], {"id": "A5", "features": {"sold_out": True}}]}
    assert sorted(await ids_with(settings, MARKETPLACE, body)) == IDS[:5]


async def test_pinned_activities_come_first_in_the_order_of_their_scores(settings: Settings) -> None:
    by_score = await ids_with(settings, DEFAULT, {"candidates": IDS})
    low, lower = by_score[-2:]
    pinned = [{"id": one, "features": {"pinned": True}} for one in (lower, low)]
    candidates = [one for one in IDS if one not in (low, lower)] + pinned
    ranked = await ids_with(settings, MARKETPLACE, {"candidates": candidates, "top_k": 5})
    assert ranked[:2] == [low, lower]


async def test_at_most_two_of_one_category_stand_in_the_top_by_the_catalogs_category(
    settings: Settings, service: Service
) -> None:
    ranked = await ids_with(settings, MARKETPLACE, {"candidates": IDS, "top_k": 6})
    categories = [service.served["control"].catalog.value(one, "category") for one in ranked]
    assert len(ranked) == 6
    assert max(categories.count(category) for category in categories) <= 2


async def test_fields_for_the_rules_are_validated_like_features(settings: Settings) -> None:
    body = {"candidates": [{"id": "A1", "features": {"sold_out": "yes"}}]}
    assert (await rank_with(settings, MARKETPLACE, body)).status_code == 422
    assert (
        await rank_with(settings, DEFAULT, {"candidates": [{"id": "A1", "features": {"sold_out": True}}]})
    ).status_code == 422


async def test_rules_that_keep_nothing_make_an_empty_ranking(settings: Settings) -> None:
    body = {"candidates": [{"id": "A1", "features": {"sold_out": True}}]}
    assert await ids_with(settings, MARKETPLACE, body) == []


class Broken(Processing):
    def arrange(self, context: Any, ranked: Any, top_k: int) -> Any:
        raise RuntimeError("broken rules")


async def test_rules_that_raise_fail_their_own_request_only(settings: Settings) -> None:
    response = await rank_with(settings, f"{__name__}:Broken", {"candidates": IDS})
    assert response.status_code == 500
    assert "broken rules" not in response.text


@pytest.mark.parametrize("name", ["nowhere:Rules", "app.processing:Nothing", "app.processing:Candidate", "json:loads"])
def test_a_class_that_cannot_be_used_is_named(name: str) -> None:
    with pytest.raises(ProcessingError, match=re.escape(name)):
        load_processing(name)


def test_the_page_shows_the_example_that_the_tests_run() -> None:
    page = (HOUSE / "docs" / "processing.md").read_text()
    shown = re.findall(r"```python\n(class MarketplaceRules.*?)```", page, re.DOTALL)[0]
    code = (HOUSE / "docs" / "examples" / "rules.py").read_text()
    for line in shown.splitlines():
        assert line in _without_types(code), line


def _without_types(code: str) -> str:
    code = re.sub(r"(self|context|candidates|ranked|top_k): [A-Za-z]+(\[[^]]*\])?", r"\1", code)
    return re.sub(r"( -> [^:]+)(?=:\n)|  # noqa.*", "", code)
