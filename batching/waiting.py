"""The requests of one lane that wait, in order: lower classes first, first come first served inside a class."""

from asyncio import Future
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from batching.policy import CostModel, Priority, batch_count
from batching.report import DispatchReason


class Ticket:
    """One admitted request on its way. Its caller's future rides in it, so no table of futures can go stale.

    future: done when the caller is to look at the `answer`.
    state: that of the lane it stands in.
    rows_left: rows that were not yet handed to the scorer; less than `rows` once pieces of an oversize request are.
    lane: the scorer that its first piece went to, so that the others follow; None before.
    probe: it found the scorer idle, so it is scored even if the prediction says that this will be late.
    had_turn: it filled a whole batch and has more, so now it lets its neighbours go first.
    queued_at: when it began to wait, or had its last turn.
    """

    __slots__ = (
        "answer",
        "arrived_at",
        "due_at",
        "future",
        "had_turn",
        "lane",
        "pieces",
        "priority",
        "probe",
        "queue_seconds",
        "queued_at",
        "request",
        "rows",
        "rows_left",
        "rows_scored",
        "score_seconds",
        "state",
    )

    def __init__(
        self,
        state: Any,
        future: Future[Any],
        request: Any,
        *,
        rows: int,
        due_at: float,
        priority: Priority,
        now: float,
        probe: bool,
    ) -> None:
        self.state = state
        self.future = future
        self.answer: Any = None
        self.request = request
        self.rows = rows
        self.rows_left = rows
        self.rows_scored = 0
        self.due_at = due_at
        self.priority = priority
        self.arrived_at = now
        self.queued_at = now
        self.probe = probe
        self.had_turn = False
        self.lane: Any = None
        self.pieces: list[Any] = []
        self.queue_seconds = 0.0
        self.score_seconds = 0.0

    def take_answer(self) -> Any:
        """The answer, which does not stay: an error holds whoever it is raised to, and so what they have this from."""
        answer, self.answer = self.answer, None
        return answer


class WaitingLine:
    """Counts are exact at every moment: whoever leaves is taken out, not marked, and that takes constant time.

    limit_rows: the most rows of a batch.
    rows: all that wait.
    turn_rows: those of them that go before a newcomer, since large requests take turns with their neighbours.
    """

    __slots__ = ("_classes", "limit_rows", "rows", "turn_rows")

    def __init__(self) -> None:
        self._classes: tuple[OrderedDict[Ticket, None], ...] = tuple(OrderedDict() for _ in Priority)
        self.limit_rows = 1
        self.rows = 0
        self.turn_rows = 0

    def resize(self, limit_rows: int) -> None:
        """Make batches of that many rows from now on."""
        self.limit_rows = limit_rows
        self.turn_rows = sum(min(ticket.rows_left, limit_rows) for ticket in self)

    def __len__(self) -> int:
        return sum(map(len, self._classes))

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self.everybody())

    def call_next(self) -> Ticket | None:
        """Who is next. Whoever had a turn steps back behind its class first."""
        for tickets in self._classes:
            while tickets:
                ticket = next(iter(tickets))
                if not ticket.had_turn:
                    return ticket
                ticket.had_turn = False
                tickets.move_to_end(ticket)
        return None

    def head_priority(self) -> Priority:
        """The highest class that waits. Only for a line that is not empty."""
        return next(priority for priority, tickets in zip(Priority, self._classes, strict=True) if tickets)

    def requests_by_class(self) -> tuple[int, ...]:
        return tuple(map(len, self._classes))

    def longest_wait_seconds(self, now: float) -> float:
        """The wait of whoever stands in front, in the class where that is longest; 0 when nobody waits."""
        return max([now - next(iter(tickets)).queued_at for tickets in self._classes if tickets], default=0.0)

    def join(self, ticket: Ticket) -> None:
        self._classes[ticket.priority][ticket] = None
        self._count(ticket.rows_left, 1)

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands; one that does not wait is left alone."""
        tickets = self._classes[ticket.priority]
        if ticket in tickets:
            del tickets[ticket]
            self._count(ticket.rows_left, -1)

    def take(self, ticket: Ticket, rows: int) -> None:
        """Hand out so many rows of a waiting ticket. What is left of it keeps its place."""
        self._count(ticket.rows_left, -1)
        ticket.rows_left -= rows
        if ticket.rows_left:
            self._count(ticket.rows_left, 1)
        else:
            del self._classes[ticket.priority][ticket]

    def everybody(self) -> list[Ticket]:
        """All who wait, class after class."""
        critical, normal, sheddable = self._classes
        return [*critical, *normal, *sheddable]

    def take_all(self) -> None:
        """Hand out all rows of everybody."""
        for tickets in self._classes:
            for ticket in tickets:
                ticket.rows_left = 0
            tickets.clear()
        self.rows = self.turn_rows = 0

    def _count(self, rows: int, sign: int) -> None:
        self.rows += sign * rows
        self.turn_rows += sign * min(rows, self.limit_rows)


@dataclass(slots=True)
class Cut:
    """A batch as it was cut from a line: whose rows, how many of each, how long they waited, for which scorer.

    in_pieces: whether any of the tickets has rows in another batch, too.
    expired: those that were taken out of the line because they could not finish in time any more.
    """

    lane: Any
    tickets: list[Ticket] = field(default_factory=list)
    piece_rows: list[int] = field(default_factory=list)
    waited_seconds: list[float] = field(default_factory=list)
    rows: int = 0
    in_pieces: bool = False
    expired: list[Ticket] = field(default_factory=list)
    reason: DispatchReason | None = None

    def add(self, ticket: Ticket, rows: int, now: float) -> None:
        if ticket.rows_left == ticket.rows:
            ticket.queue_seconds = now - ticket.arrived_at
        self.tickets.append(ticket)
        self.piece_rows.append(rows)
        self.waited_seconds.append(now - ticket.queued_at)
        self.rows += rows
        if rows < ticket.rows:
            self.in_pieces = True


def cut(line: WaitingLine, lane: Any, model: CostModel, now: float) -> Cut:
    """Take the next batch out of a line: from the head on, until it is full.

    Whoever does not fit any more gives the rows that do, so that batches are exactly full, and is first in the next.
    A request that filled a whole batch and has more takes turns with its neighbours.
    Who left is skipped. Who cannot finish in time is expired, because its rows would be scored in vain; a member that
    would become late because of one more is not made to wait for it. The pieces of a request stay with one scorer, so
    a batch ends where that changes.
    """
    rows = line.rows
    if rows <= line.limit_rows and _can_all_go(tickets := line.everybody(), now + model.seconds(rows)):
        line.take_all()
        for ticket in tickets:
            ticket.queue_seconds = now - ticket.arrived_at
        waited_seconds = [ticket.queue_seconds for ticket in tickets]
        taken = Cut(lane, tickets, [ticket.rows for ticket in tickets], waited_seconds, rows)
    else:
        taken = cut_one_by_one(line, lane, model, now)
    if taken.rows == line.limit_rows:
        taken.reason = DispatchReason.FULL
    return taken


def _can_all_go(tickets: list[Ticket], finish_at: float) -> bool:
    """Whether nobody is gone, or late, or has a piece with some scorer: then one look at each decides nothing more."""
    for ticket in tickets:  # noqa: SIM110 half the time of all(), for each request
        if ticket.due_at < finish_at or ticket.lane is not None or ticket.future.done():
            return False
    return True


def cut_one_by_one(line: WaitingLine, lane: Any, model: CostModel, now: float) -> Cut:
    """What `cut` takes, for all lines."""
    taken, due_at = Cut(lane), inf
    while taken.rows < line.limit_rows and (ticket := line.call_next()) is not None:
        if ticket.future.done():  # whoever it was left, or has an outcome already
            line.leave(ticket)
            continue
        if not taken.tickets:
            taken.lane = ticket.lane or lane
        elif (ticket.lane or lane) is not taken.lane:
            break
        rows = min(ticket.rows_left, line.limit_rows - taken.rows)
        finish_at = whole_at = now + model.seconds(taken.rows + rows)
        if rows < ticket.rows_left:
            whole_at = now + _finish_seconds(model, taken.rows + ticket.rows_left, line)
        if ticket.due_at < (now if ticket.probe else whole_at):
            line.leave(ticket)
            taken.expired.append(ticket)
            continue
        if due_at < finish_at:
            taken.reason = DispatchReason.DEADLINE
            break
        if finish_at <= ticket.due_at:
            due_at = min(due_at, ticket.due_at)
        taken.add(ticket, rows, now)
        line.take(ticket, rows)
        if ticket.rows_left:
            _keep_place(ticket, taken.lane, now, had_turn=rows == line.limit_rows)
    return taken


def _finish_seconds(model: CostModel, rows: int, line: WaitingLine) -> float:
    return model.seconds(rows, batch_count(rows, line.limit_rows))


def _keep_place(ticket: Ticket, lane: Any, now: float, *, had_turn: bool) -> None:
    """What waits on of a request whose piece was taken: for the same scorer, and from now on if it had its turn."""
    ticket.lane = lane
    ticket.had_turn = had_turn
    if had_turn:
        ticket.queued_at = now
