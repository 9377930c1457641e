"""What ranks for a variant: a model, the rows it wants, the rules around it, and what its batches cost."""

import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.derived import DerivedColumns, Lookup
from app.models import Served
from app.processing import Processing, Rules
from app.ranking import Scorer, Work, offsets_of
from app.rows import RowMaker, Rows
from app.schemas import Field, RequestShape, ShapeError
from app.settings import Settings, SettingsError
from batching import Cost, Limits, calibrate
from features import Visitors
from monitoring.drift import Drift
from registry import Feature

SHOWN = 3  # categories in a message
FEW = 5  # timings of each size, beside rankings: what is wrong with them the lane learns in its first batches


class Parts(NamedTuple):
    """What is made of a model at once, before the long work."""

    one: Served
    maker: RowMaker
    derived: DerivedColumns | None
    rules: Rules


class Equipment(NamedTuple):
    """`drift` looks after its traffic, where the model has a profile; `cost` is None where it is that of its lane."""

    one: Served
    scorer: Scorer
    rules: Rules
    drift: Drift | None
    cost: Cost | None = None


class Fitter:
    """Makes what ranks, of models; what it makes for one service may take the place of what is there."""

    def __init__(
        self,
        settings: Settings,
        shape: RequestShape,
        processing: Processing,
        visitors: Visitors,
        limits: Limits,
        *,
        shared: Path | None,
    ) -> None:
        self._settings = settings
        self._shape = shape
        self._processing = processing
        self._visitors = visitors
        self._limits = limits
        self._shared = shared

    def parts(self, one: Served) -> Parts:
        """Raises `CatalogError`, and `ShapeError` for a model that wants what requests cannot carry."""
        features = one.model.bundle.features
        check_shape(features, self._shape)
        check_store(features, self._settings)
        maker = RowMaker(features, self._shape, one.catalog)
        has_derived = any(feature.role == "derived" for feature in features)
        derived = DerivedColumns(features, one.catalog, maker.known) if has_derived else None
        return Parts(one, maker, derived, Rules(self._processing, self._shape, one.catalog))

    def equip(self, parts: Parts, drift: Drift | None) -> Equipment:
        """Prepare the activities, which takes long, and prove their scores."""
        one, maker, derived, rules = parts
        budget_bytes = self._settings.catalog_budget_mb * 2**20
        scorer = Scorer(one.model, maker, derived, self._visitors, budget_bytes=budget_bytes, shared=self._shared)
        return Equipment(one, scorer, rules, drift)

    def renew(self, equipment: Equipment, one: Served) -> Equipment:
        """The same model over another catalog."""
        return self.equip(self.parts(one), equipment.drift)

    def priced(self, equipment: Equipment) -> Equipment:
        """With what its batches cost, as measured in the calling thread."""
        return equipment._replace(cost=self._pinned() or self._measured(equipment))

    def priced_beside(self, equipment: Equipment, live: Equipment, learned: Cost) -> Equipment:
        """The same while `live` is ranking: what it costs here is known, so what else is going on can be left out."""
        if pinned := self._pinned():
            return equipment._replace(cost=pinned)
        # In time of the processor: that of the clock would count rankings, too.
        measured, of_live = (self._measured(one, repeats=FEW, clock=time.thread_time) for one in (equipment, live))
        rows = self._limits.max_batch_rows
        slower = of_live.seconds(rows) / learned.seconds(rows)
        return equipment._replace(cost=Cost(measured.fixed_seconds / slower, measured.row_seconds / slower))

    def _measured(
        self, equipment: Equipment, *, repeats: int = 20, clock: Callable[[], float] = time.perf_counter
    ) -> Cost:
        one, scorer = equipment.one, equipment.scorer
        return calibrate(
            lambda works: scorer.values(made := [work.rows for work in works], offsets_of(made)),
            partial(sample, scorer, one),
            limits=self._limits,
            repeats=repeats,
            clock=clock,
        )

    def _pinned(self) -> Cost | None:
        fixed, row = self._settings.pinned_batch_us, self._settings.pinned_row_us
        return None if fixed is None or row is None else Cost(fixed / 1e6, row / 1e6)


def over(one: Served, catalog: Served) -> Served:
    """A model over the activities that another one ranks."""
    return replace(one, catalog=catalog.catalog, snapshot=catalog.snapshot)


def check_shape(features: Iterable[Feature], shape: RequestShape) -> None:
    """Raise `ShapeError` unless requests carry all that the features ask for: what they may carry never changes."""
    fields = {
        "context": {field.name: field for field in shape.context},
        "activity": {field.name: field for field in shape.activity},
    }
    for feature in features:
        if feature.role != "derived":
            _check_field(feature, fields[feature.role].get(feature.name))


def _check_field(feature: Feature, field: Field | None) -> None:
    asked = f"the model asks for the {feature.role} feature {feature.name!r}"
    until = "and what requests may carry changes with a restart only"
    if field is None:
        raise ShapeError(f"{asked}, which requests do not have here, {until}")
    if field.type != feature.type:
        raise ShapeError(f"{asked} as a {feature.type}, requests have a {field.type}, {until}")
    if new := [one for one in feature.categories or () if one not in field.categories]:
        names = ", ".join([*map(repr, new[:SHOWN]), *(["..."] if len(new) > SHOWN else [])])
        raise ShapeError(f"{asked} with {len(new)} categories that requests do not know here ({names}), {until}")


def check_store(features: Iterable[Feature], settings: Settings) -> None:
    """Raise `SettingsError` for histories that one worker keeps and the others do not know of."""
    if settings.workers == 1 or settings.feature_store != "memory:":
        return
    if any(feature.role == "derived" for feature in features):
        raise SettingsError(
            f"FRONTROW_FEATURE_STORE: memory: is for one process, and FRONTROW_WORKERS is {settings.workers}; "
            "sqlite:histories.db or redis://host:6379/0 is for several"
        )


def sample(scorer: Scorer, one: Served, rows: int) -> Work:
    """Work to measure with: known activities where there are any, since those are what is asked for mostly.

    Else golden rows, mixed anew column by column: a few rows over and over would teach the processor their branches,
    and cost a third of what rows cost in truth.
    """
    random = np.random.default_rng(0)
    golden = one.golden.rows
    known = len(one.catalog)
    items = random.integers(known, size=rows) if known else ~np.arange(rows)
    own = golden[random.integers(len(golden), size=(0 if known else rows, golden.shape[1])), np.arange(golden.shape[1])]
    pairs = None
    if scorer.derived is not None:
        pairs = golden[random.integers(len(golden), size=rows)][:, scorer.derived.pairs]
    made = Rows(array("d", golden[0].tolist()), items, own, [], {}, pairs)
    return Work(None, range(rows), scorer.maker, made, Lookup(None))
