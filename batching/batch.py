"""A batch, from the moment it is cut until its report."""

from typing import Any

from batching.lanes import Lane, LaneState
from batching.report import BatchOutcome, BatchReport, DispatchReason
from batching.waiting import Cut


class Batch:
    """Requests of one lane on their way through `prepare` and `score` together.

    tickets, piece_rows, requests: in one order; how many rows of each ticket, and what `score` will be given for it.
    predicted_seconds: what scoring will take; charged_seconds: what its lane was charged for it when it was cut.
    """

    __slots__ = (
        "charged_seconds",
        "failed_requests",
        "lane",
        "on_loop",
        "outcome",
        "piece_rows",
        "predicted_seconds",
        "prepare_seconds",
        "prepared",
        "queue_seconds",
        "reason",
        "requests",
        "rows",
        "score_seconds",
        "started_at",
        "state",
        "tickets",
    )

    def __init__(self, state: LaneState, taken: Cut, reason: DispatchReason, now: float) -> None:
        self.state = state
        self.lane: Lane[Any, Any] = taken.lane
        self.tickets = taken.tickets
        self.piece_rows = taken.piece_rows
        self.requests = [ticket.request for ticket in taken.tickets]
        self.rows = taken.rows
        self.reason = reason
        self.queue_seconds = tuple(taken.waited_seconds)
        self.started_at = now
        self.predicted_seconds = self.charged_seconds = state.model.seconds(taken.rows)
        self.prepared = False
        self.on_loop = False
        self.outcome = BatchOutcome.OK
        self.failed_requests = 0
        self.prepare_seconds = 0.0
        self.score_seconds = 0.0

    def keep(self, requests: list[Any]) -> None:
        """Go on with these in place of the requests, without those whose callers left or have their answers."""
        kept = [each for each in zip(self.tickets, self.piece_rows, requests, strict=True) if not each[0].future.done()]
        self.tickets = [ticket for ticket, _, _ in kept]
        self.piece_rows = [rows for _, rows, _ in kept]
        self.requests = [request for _, _, request in kept]
        self.rows = sum(self.piece_rows)

    def report(self) -> BatchReport:
        return BatchReport(
            self.state.name,
            self.rows,
            len(self.tickets),
            self.reason,
            self.outcome,
            self.failed_requests,
            self.on_loop,
            self.queue_seconds,
            self.prepare_seconds,
            self.score_seconds,
        )
