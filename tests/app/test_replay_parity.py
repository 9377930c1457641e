"""Sessions of the past, sent to a service again: it scores the rows that training computed, bit for bit."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from served import serving

from app.experiment import Variant
from app.models import fetch_models, load_models
from app.ranking import Scorer
from app.service import Service
from app.settings import Settings
from features import Event
from registry import Feature, write_bundle
from scoring.catalog import Catalog
from training.demo import VARIANTS, Marketplace, make_marketplace, variant_features
from training.features import encode
from training.replay import Replay

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("replay")]

SESSIONS = 1_000
EVENTS_A_REQUEST = 1_000

Floats = NDArray[np.float64]


class Recorder:
    """The catalog of a scorer, and the whole rows that it was asked to score."""

    def __init__(self, inside: Catalog, scorer: Scorer, context: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> None:
        self.inside = inside
        self.rows: list[Floats] = []
        self._activities = scorer.maker.activities
        self._context, self._pairs = context, pairs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)

    def score(
        self, contexts: Floats, offsets: NDArray[np.int64], items: NDArray[np.int64], own: Floats, pairs: Floats
    ) -> Floats:
        whole = np.where(
            self._context, np.repeat(contexts, np.diff(offsets), axis=0), self._activities[np.maximum(items, 0)]
        )
        whole[:, self._pairs] = pairs
        whole[items < 0] = own[~items[items < 0]]
        self.rows.append(whole)
        return self.inside.score(contexts, offsets, items, own, pairs)


def record(service: Service, variant: Variant) -> Recorder:
    scorer = service.rankers[variant].scorer
    assert scorer.derived is not None
    context = scorer.maker.context_columns | scorer.derived.context
    scorer.catalog = recorder = Recorder(scorer.catalog, scorer, context, scorer.derived.pairs)
    return recorder


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Marketplace:
    return make_marketplace(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def demo_bundles(market: Marketplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's two models, with fewer trees."""
    folder = tmp_path_factory.mktemp("demo_bundles")
    learn, _ = market.read()
    for variant in VARIANTS:
        features = variant_features(learn, variant)
        rows = encode(learn, features)
        data = lightgbm.Dataset(
            rows,
            learn.labels,
            group=learn.sizes,
            feature_name=[feature.name for feature in features],
            categorical_feature=[place for place, feature in enumerate(features) if feature.categories is not None],
        )
        parameters = {"objective": "lambdarank", "num_leaves": 31, "verbosity": -1, "num_threads": 1, "seed": 1}
        write_bundle(
            folder / variant.name,
            model_text=lightgbm.train(parameters, data, 20).model_to_string().encode(),
            features=features,
            golden_rows=rows[:40],
            example=[],
            name="activity-ranker",
            version="1",
            source=f"models:/activity-ranker@{variant.alias}",
            trained_at=datetime(2026, 1, 1, tzinfo=UTC),
            catalog=market.catalog.read_bytes(),
        )
    return folder


def as_sent(event: Event) -> dict[str, Any]:
    return {"visitor_id": event.visitor, "activity_id": event.activity, "type": event.kind, "at": event.at}


async def test_the_rows_that_are_scored_are_those_of_training_to_the_last_bit(
    settings: Settings, market: Marketplace, demo_bundles: Path
) -> None:
    update = {
        "control_model": str(demo_bundles / "control"),
        "treatment_model": str(demo_bundles / "treatment"),
        "feature_budget_ms": 1_000,
    }
    settings = settings.model_copy(update=update)
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    recorders = {variant: record(service, variant) for variant in service.served}
    by_variant = {variant: one.model.bundle.features for variant, one in service.served.items()}
    features: dict[str, Feature] = {one.name: one for listed in by_variant.values() for one in listed}
    replay = Replay(market, list(features.values()), count=SESSIONS, ends_at=service.visitors.now())
    histories = 0
    async with serving(service) as client:
        for place, session in enumerate(replay.sessions):
            events = [as_sent(event) for event in session.events]
            for start in range(0, len(events), EVENTS_A_REQUEST):
                response = await client.post("/v1/events", json=events[start : start + EVENTS_A_REQUEST])
                assert response.status_code == 202, response.text
                assert response.json()["unknown_activities"] == []
            for variant, recorder in recorders.items():
                headers = {"X-Visitor-Id": session.visitor, "X-Variant": variant}
                with structlog.testing.capture_logs() as logs:
                    answer = (await client.post("/v1/rank", json=session.body, headers=headers)).json()
                assert not answer["degraded"]
                (moment,) = [line["moment"] for line in logs if line["event"] == "rank"]
                expected = replay.rows(place, by_variant[variant], moment)
                (scored,) = recorder.rows
                recorder.rows.clear()
                assert scored.tobytes() == expected.tobytes(), (variant, place)
                scores = service.served[variant].model.engine.score(expected)
                by_id = {one["id"]: one["score"] for one in answer["ranking"]}
                ids = [one if isinstance(one, str) else one["id"] for one in session.body["candidates"]]
                assert [by_id[one] for one in ids] == scores.tolist()
            histories += not np.isnan(
                expected[0, [one.name for one in by_variant[variant]].index("visitor_hours_since_event")]
            )
    await service.stop()
    print(f"{SESSIONS} sessions in two variants, {histories} of visitors with a history")
    assert histories > SESSIONS / 2
