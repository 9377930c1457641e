"""Rows in, their scores out: what the paths of other protocols have in common.

They take the same way as rankings, through the same batches, and are refused and counted as rankings are. There is no
catalog, no visitor and no rule: a caller sends whole rows.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from app.errors import Problem, too_many_rows, unsupported_media
from app.experiment import Assignment
from app.given_rows import Floats, GivenRows
from app.rank_route import Exchange, Header, RankRoute, Reply, lines
from app.ranking import ModelReplaced, Ranking, Scores
from app.rows import Rows
from app.schemas import RankRequest
from app.service import Service
from batching import ScoringFailed
from registry import Model

# The most bytes that a value takes, as text usually and with its column's name: for a low guess of a body's rows.
TEXT_BYTES = 64
BINARY_BYTES = 8

# Longer texts are read beside the event loop, which they would hold up for more than a millisecond.
AT_ONCE_BYTES = 32_768


class ScoreRoute(RankRoute):
    """What all exchanges of one of these protocols share."""

    event = "score"

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.reader = ThreadPoolExecutor(1, "reader")

    def _make_decoders(self) -> dict[bytes, Callable[[bytes], RankRequest]]:
        return {}


class Told(NamedTuple):
    """An answer: its media type, headers of its own, and its body."""

    media: bytes
    headers: list[Header]
    body: bytes


class ScoreExchange(Exchange):
    """One request on its way. A protocol says whose scores are asked for, and how one reads, answers and refuses."""

    __slots__ = ("_model", "_rows")

    _route: ScoreRoute

    def __init__(self, route: ScoreRoute, headers: list[Header], arrived_at: float, reply: Reply) -> None:
        self._model: Model
        self._rows: Rows | None = None
        super().__init__(route, headers, arrived_at, reply)

    def rank(self, body: bytes) -> None:
        """Read the rows and stand in line to have them scored."""
        if len(body) <= AT_ONCE_BYTES or self._is_binary():
            self._enter_once(partial(self._read, body))
            return
        reading = asyncio.get_running_loop().run_in_executor(self._route.reader, self._read, body)
        reading.add_done_callback(self._was_read)

    def _was_read(self, reading: "asyncio.Future[GivenRows]") -> None:
        if not self.answered:
            self._enter_once(reading.result)

    def _enter_once(self, rows: Callable[[], GivenRows]) -> None:
        try:
            given = rows()
            self._decoded_at = self._route.clock()
            self._enter_rows(given)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def refuse(self, error: Exception) -> None:
        if isinstance(error, ScoringFailed) and isinstance(error.__cause__, ModelReplaced):
            error = error.__cause__
        if isinstance(error, Problem) and error.status is HTTPStatus.UNPROCESSABLE_ENTITY:
            error.status = HTTPStatus.BAD_REQUEST  # these protocols have no other status for it
        super().refuse(error)

    def _assign(self) -> Assignment:
        """Choose the variant, and set `_model`."""
        raise NotImplementedError

    def _read(self, body: bytes) -> GivenRows:
        """The rows in a body; for any thread. Raises `Problem`."""
        raise NotImplementedError

    def _tell(self, scores: Floats) -> Told:
        """The answer with these scores."""
        raise NotImplementedError

    def _is_binary(self) -> bool:
        """Whether the body has the rows as they lie in memory, and not as text."""
        return False

    def _media_of_body(self) -> bytes:
        """The body's media type; parameters that say UTF-8 are left out. Raises the 415 of one that is compressed."""
        if self.caller.content_encoding not in (b"", b"identity"):
            raise unsupported_media("the body must not be compressed; Content-Encoding is not supported")
        media, _, parameters = self.caller.content_type.lower().partition(b";")
        if parameters.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
            raise unsupported_media("the body must be in UTF-8, and Content-Type has no other parameters")
        return media.strip()

    def _refuse_early(self) -> None:
        service, variant, priority = self._route.service, self.assignment.variant, self.caller.priority
        row_bytes = (BINARY_BYTES if self._is_binary() else TEXT_BYTES) * len(self._model.bundle.features)
        rows = max(1, (self.caller.content_length or 0) // row_bytes)
        service.batcher.turn_away(variant, rows=rows, due_at=self._due_at, priority=priority)

    def _check_count(self, rows: int) -> None:
        limit = self._route.settings.max_candidates
        if rows > limit:
            raise too_many_rows(rows, limit)

    def _enter_rows(self, given: GivenRows) -> None:
        matrix, unseen = given
        self._check_count(len(matrix))
        if not len(matrix):
            self._answer_with(Ranking(self._model, [], 0.0, 0.0, 0, usable=True), matrix[:, 0])
            return
        ranker = self._route.service.rankers[self.assignment.variant]
        if ranker.scorer.model is not self._model:
            raise ModelReplaced(self._model, len(matrix))
        work = ranker.scorer.given(matrix)
        self._rows = replace(work.rows, unseen=unseen)
        self._rows_seconds = self._route.clock() - self._decoded_at
        self._ticket = ticket = ranker.enter(work, due_at=self._due_at, priority=self.caller.priority)
        ticket.future.add_done_callback(self._scored)

    def _scored(self, future: "asyncio.Future[Any]") -> None:
        if self.answered:
            return
        assert self._ticket is not None  # it is what is done
        try:
            scored = self._route.service.batcher.learn(self._ticket)
            scores: Scores = scored.result
            values = scores.values
            usable = scores.finite or bool(np.isfinite(values).all())
            times = scored.queue_seconds, scored.score_seconds
            self._answer_with(Ranking(scores.scorer.model, [], *times, len(values), usable), values)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def _answer_with(self, ranking: Ranking, scores: Floats) -> None:
        media, headers, body = self._tell(scores)
        head = lines([(b"content-type", media), *headers])
        self._deliver(ranking, self._rows, head + self._passport(ranking).lines, body)
