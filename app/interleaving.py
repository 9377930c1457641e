"""Both models in one answer, for the visitors of an experiment that interleaves (`FRONTROW_ASSIGNMENT=interleave`).

All others are answered as ever.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from msgspec.structs import replace

from app.experiment import VARIANTS, Variant
from app.onlooker import Ranked
from app.rank_route import Exchange, Header, RankRoute, Reply
from app.ranking import Ranking, Work
from app.schemas import RankedActivity, RankRequest
from app.service import Passport
from batching import Expired, Shed, Ticket
from monitoring.interleaving import Interleaved, Team, team_draft

log = structlog.get_logger("frontrow.rank")

INTERLEAVED: Final[Variant] = "interleaved"


class InterleavingRoute(RankRoute):
    def exchange(self, headers: list[Header], arrived_at: float, reply: Reply) -> Exchange:
        return InterleavingExchange(self, headers, arrived_at, reply)


class Part(NamedTuple):
    """What one of the models has to do for an answer."""

    variant: Variant
    work: Work
    ticket: Ticket


class InterleavingExchange(Exchange):
    """One request on its way through both lanes. A model that has no ranking leaves the answer to the other one."""

    __slots__ = ("_failures", "_joint_passport", "_parts", "_undone")

    def __init__(self, route: RankRoute, headers: list[Header], arrived_at: float, reply: Reply) -> None:
        super().__init__(route, headers, arrived_at, reply)
        self._parts: list[Part] = []
        self._undone = 0
        self._failures: dict[Variant, Exception] = {}
        self._joint_passport: Passport | None = None

    def leave(self) -> None:
        if not self.answered:
            for part in self._parts:
                self._route.service.batcher.leave(part.ticket)
        super().leave()

    def _refuse_early(self) -> None:
        if self.assignment.variant != INTERLEAVED:
            super()._refuse_early()
            return
        service, priority = self._route.service, self.caller.priority
        rows = self._route.rows_at_least(self.caller, self._media)
        for variant in VARIANTS:
            service.batcher.turn_away(variant, rows=rows, due_at=self._due_at, priority=priority)

    def _enter(self, request: RankRequest) -> None:
        if self.assignment.variant != INTERLEAVED:
            super()._enter(request)
            return
        self._request = request
        rankers = self._route.service.rankers
        chosen = {variant: rankers[variant].select(request) for variant in VARIANTS}
        if not all(chosen.values()):
            self._answer(rankers["control"].empty(rankers["control"].scorer.model, request))
            return
        for variant, candidates in chosen.items():
            try:
                self._parts.append(self._part(variant, request, candidates))
            except Exception as error:  # noqa: BLE001 the other one may do better
                self._failures[variant] = error
        if not self._parts:
            raise self._failures["control"]
        self._rows_seconds = self._route.clock() - self._decoded_at
        self._undone = len(self._parts)
        for part in self._parts:
            part.ticket.future.add_done_callback(self._part_done)

    def _part(self, variant: Variant, request: RankRequest, candidates: Sequence[Any]) -> Part:
        ranker = self._route.service.rankers[variant]
        work = ranker.work(request, candidates, self.caller.visitor)
        return Part(variant, work, ranker.enter(work, due_at=self._due_at, priority=self.caller.priority))

    def _part_done(self, _: "asyncio.Future[Any]") -> None:
        self._undone -= 1
        if self._undone or self.answered:
            return
        parts, self._parts = self._parts, []
        self._scored_at = self._route.clock()
        try:
            ranked = self._ranked(parts)
            draft = self._answer_with(ranked)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)
            return
        self._route.service.onlooker.interleaved(self.request_id, self.assignment, ranked, draft)

    def _ranked(self, parts: list[Part]) -> dict[Variant, Ranked]:
        """The rankings that there are. Raises what a model failed with when there is none."""
        service, found = self._route.service, {}
        for variant, work, ticket in parts:
            try:
                scored = service.batcher.learn(ticket)
                ranking = service.rankers[variant].ranking(self._request, work.candidates, scored)
                found[variant] = Ranked(scored.result.scorer.own(work), ranking, scored.result.values)
            except Exception as error:  # noqa: BLE001 the other one may have done better
                self._failures[variant] = error
        if not found:
            raise next(iter(self._failures.values()))
        return found

    def _answer_with(self, ranked: dict[Variant, Ranked]) -> Interleaved | None:
        """Answer with both rankings in one, and say whose picks they are; or with the only one there is."""
        for variant, failure in self._failures.items():
            self._mourn(variant, failure)
        works = [one.work for one in ranked.values()]
        self._work = next((work for work in works if work.lookup.degraded), works[0])
        if self._failures:
            (alone,) = ranked.values()
            self._answer(alone.ranking)
            return None
        control, treatment = ranked["control"].ranking, ranked["treatment"].ranking
        draft, ranking = _merged(control, treatment, self.request_id)
        self._joint_passport = self._route.service.joint_passport(control.model, treatment.model)
        self._answer(ranking)
        return draft

    def _mourn(self, variant: Variant, failure: Exception) -> None:
        self._route.metrics.traffic.alone.labels(variant).inc()
        if not isinstance(failure, Shed | Expired):
            log.error("ranks alone", request_id=self.request_id, failed=variant, exc_info=failure)

    def _finish(self) -> None:
        super()._finish()
        self._failures.clear()  # their frames hold this exchange

    def _passport(self, ranking: Ranking) -> Passport:
        return self._joint_passport or super()._passport(ranking)


def _merged(control: Ranking, treatment: Ranking, seed: str) -> tuple[Interleaved, Ranking]:
    """Both rankings in one, each activity with the score of the model that picked it; the slower one's times."""
    sides: dict[Team, Ranking] = {"control": control, "treatment": treatment}
    ids = {team: [one.id for one in side.activities] for team, side in sides.items()}
    order, teams = team_draft(ids["control"], ids["treatment"], seed)
    most = max(map(len, ids.values()))  # rules may drop others for each model, and then a round is one too long
    draft = Interleaved(order[:most], teams[:most])
    scores = {team: {one.id: one.score for one in side.activities} for team, side in sides.items()}
    slower = max(sides.values(), key=lambda side: side.queue_seconds + side.score_seconds)
    activities = [
        RankedActivity(activity, scores[team][activity], place)
        for place, (activity, team) in enumerate(zip(*draft, strict=True), 1)
    ]
    return draft, replace(slower, activities=activities, usable=control.usable and treatment.usable)
