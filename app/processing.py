"""The rules around scoring, by whoever owns the ranking: what is scored, and how the order is arranged.

Name a subclass in `FRONTROW_PROCESSING`; `docs/processing.md` has a worked example.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from app.schemas import Field, FieldType, RankRequest, RequestShape, candidate_id
from features import Catalog


class ProcessingError(Exception):
    """The class named in the settings cannot be used."""


class Candidate:
    """One candidate as the rules see it: `candidate["price"]` is the request's value, else the catalog's, else None."""

    __slots__ = ("_catalog", "_given", "id")

    def __init__(self, activity: str, given: Mapping[str, Any], catalog: Catalog) -> None:
        self.id = activity
        self._given = given
        self._catalog = catalog

    def __getitem__(self, name: str) -> Any:
        given = self._given.get(name)
        return self._catalog.value(self.id, name) if given is None else given


class Ranked(Candidate):
    """A candidate with its score. The list of them is what `arrange` puts in order."""

    __slots__ = ("score",)

    def __init__(self, activity: str, given: Mapping[str, Any], catalog: Catalog, score: float) -> None:
        super().__init__(activity, given, catalog)
        self.score = score


class Processing:
    """The default: everything is scored, and the best score comes first (ties in the order of the request).

    `context_fields` and `candidate_fields` name what requests may carry for the rules besides the models' features.
    """

    context_fields: ClassVar[Mapping[str, FieldType]] = {}
    candidate_fields: ClassVar[Mapping[str, FieldType]] = {}

    def select(self, context: Mapping[str, Any], candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates to score, out of those of the request."""
        return candidates

    def arrange(self, context: Mapping[str, Any], ranked: Sequence[Ranked], top_k: int) -> Sequence[Ranked]:
        """The final order, from best score first; the answer is cut to `top_k` after it."""
        return ranked


def load_processing(name: str) -> Processing:
    """The rules named `module:Class`. Raises `ProcessingError`."""
    module, _, attribute = name.partition(":")
    try:
        rules = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ProcessingError(f"FRONTROW_PROCESSING={name}: {error}") from error
    if not isinstance(rules, Processing):
        raise ProcessingError(f"FRONTROW_PROCESSING={name}: not a subclass of app.processing.Processing")
    return rules


def extra_fields(rules: Processing) -> dict[str, list[Field]]:
    """What requests may carry for the rules, by role."""
    return {
        "context": [Field(name, kind) for name, kind in rules.context_fields.items()],
        "activity": [Field(name, kind) for name, kind in rules.candidate_fields.items()],
    }


class Rules:
    """Applies a `Processing` to decoded requests; costs nothing where a method is the default's."""

    def __init__(self, processing: Processing, shape: RequestShape, catalog: Catalog) -> None:
        self._processing = processing
        self._shape = shape
        self._catalog = catalog
        self.selects = type(processing).select is not Processing.select
        self.arranges = type(processing).arrange is not Processing.arrange

    def select(self, request: RankRequest) -> list[Any]:
        """The request's candidates that are to be scored."""
        by_id = {candidate_id(candidate): candidate for candidate in request.candidates}
        views = [Candidate(name, self._given(candidate), self._catalog) for name, candidate in by_id.items()]
        return [by_id[kept.id] for kept in self._processing.select(self._context(request), views)]

    def arrange(
        self, request: RankRequest, candidates: Sequence[Any], order: Sequence[int], scores: Sequence[float]
    ) -> list[tuple[str, float]]:
        """(id, score) in the rules' order; `order` are positions in `candidates`, best score first."""
        ranked = [
            Ranked(
                candidate_id(candidates[position]), self._given(candidates[position]), self._catalog, scores[position]
            )
            for position in order
        ]
        top_k = len(ranked) if request.top_k is None else request.top_k
        return [(kept.id, kept.score) for kept in self._processing.arrange(self._context(request), ranked, top_k)]

    def _context(self, request: RankRequest) -> dict[str, Any]:
        if request.context is None:
            return {}
        return dict(
            zip((field.name for field in self._shape.context), msgspec.structs.astuple(request.context), strict=True)
        )

    def _given(self, candidate: Any) -> dict[str, Any]:
        if type(candidate) is str or candidate.features is None:
            return {}
        return dict(
            zip(
                (field.name for field in self._shape.activity), msgspec.structs.astuple(candidate.features), strict=True
            )
        )
