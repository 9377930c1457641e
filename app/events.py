"""What visitors do, told to the service: the body of `POST /v1/events`, and what becomes of each event in it."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NoReturn

import msgspec
import structlog
from msgspec import Meta

from app.caller import VISITOR_ID
from app.errors import Fault, Problem, invalid_request, read_only_store, store_unavailable, too_many_events
from app.metrics import Metrics
from app.schemas import MAX_FAULTS, ActivityId, faults_of_value, kind_of, read_document, shown
from features import MAX_AT, Event, Kind, StoreReadOnly, StoreUnavailable, Visitors

MAX_PENDING = 256  # requests whose events a store has yet to take; it has a second for each
LOG_SECONDS = 1.0

VisitorId = Annotated[str, Meta(pattern=rf"^{VISITOR_ID}\Z")]
At = Annotated[int, Meta(ge=0, lt=MAX_AT)] | Annotated[float, Meta(ge=0, lt=MAX_AT, multiple_of=1)]  # 12.0 is as whole

log = structlog.get_logger("frontrow.events")


class SentEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`at` is in milliseconds since 1970, UTC; without it, or from the future, it is the moment of arrival."""

    visitor_id: VisitorId
    activity_id: ActivityId
    type: Kind
    at: At | None = None


class Receipt(msgspec.Struct):
    """What became of the events of a request.

    kept: how many count from now on, also if they were known already. unknown_activities: ids that no catalog has.
    too_old: how many happened longer ago than histories reach back.
    """

    kept: int
    unknown_activities: list[str]
    too_old: int


_decoder = msgspec.json.Decoder(list[SentEvent] | SentEvent)
_FIELDS = {field.name: field for field in msgspec.structs.fields(SentEvent)}


class Intake:
    """Takes events in, for `visitors` to find.

    knows: whether any catalog has an activity. told: is given the events that were kept. ttl_ms: how far back
    histories reach.
    """

    def __init__(
        self,
        visitors: Visitors,
        metrics: Metrics,
        *,
        knows: Callable[[str], bool],
        told: Callable[[Sequence[Event]], None],
        max_events: int,
        ttl_ms: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._visitors = visitors
        self._metrics = metrics
        self._knows = knows
        self._told = told
        self._max_events = max_events
        self._ttl_ms = ttl_ms
        self._clock = clock
        self._pending = 0
        self._log_at = 0.0

    async def take(self, body: bytes) -> Receipt:
        """Keep the events of a body: the next ranking of their visitors has them. Raises `Problem`, nothing kept."""
        sent = self._decode(body)
        now = self._visitors.now()
        known = [one for one in sent if self._knows(one.activity_id)]
        events = [_event(one, now) for one in known]
        kept = [event for event in events if event.at >= now - self._ttl_ms]
        self._metrics.took_events("unknown_activity", len(sent) - len(known))
        self._metrics.took_events("too_old", len(known) - len(kept))
        if kept:
            await self._keep(kept)
        unknown = dict.fromkeys(one.activity_id for one in sent if not self._knows(one.activity_id))
        return Receipt(len(kept), list(unknown), len(known) - len(kept))

    async def forget(self, visitor: str) -> None:
        """Delete what is kept of a visitor. Raises `Problem`."""
        try:
            await self._visitors.forget(visitor)
        except StoreUnavailable as error:
            self._log(error, "a history was not deleted")
            raise _problem(error) from error

    async def _keep(self, events: Sequence[Event]) -> None:
        self._pending += 1
        try:
            self._check_room()
            await self._visitors.record(events)
        except StoreUnavailable as error:
            self._metrics.took_events("refused", len(events))
            self._log(error, "events were not kept")
            raise _problem(error) from error
        finally:
            self._pending -= 1
        self._metrics.took_events("kept", len(events))
        self._told(events)

    def _check_room(self) -> None:
        if self._pending > MAX_PENDING:
            raise StoreUnavailable(f"{MAX_PENDING} requests wait for the store to take their events")

    def _decode(self, body: bytes) -> Sequence[SentEvent]:
        try:
            sent = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._explain(body)
        events = sent if isinstance(sent, list) else [sent]
        if len(events) > self._max_events:
            self._metrics.took_events("invalid", len(events))
            raise too_many_events(len(events), self._max_events)
        return events

    def _explain(self, body: bytes) -> NoReturn:
        """Raise the answer to a body that did not decode, with the place of each of its faults."""
        count = 1
        try:
            document = read_document(body)
            if isinstance(document, list):
                count = len(document)
                if count > self._max_events:
                    raise too_many_events(count, self._max_events)
            raise invalid_request(list(_faults(document, body))[:MAX_FAULTS])
        finally:
            self._metrics.took_events("invalid", count)

    def _log(self, error: StoreUnavailable, what: str) -> None:
        """Once a second: whoever sends events sends many."""
        now = self._clock()
        if now - self._log_at >= LOG_SECONDS:
            self._log_at = now
            log.warning(what, store=self._visitors.store.name, reason=str(error))


def _event(sent: SentEvent, now: int) -> Event:
    at = now if sent.at is None else min(int(sent.at), now)
    return Event(sent.visitor_id, sent.activity_id, sent.type, at)


def _problem(error: StoreUnavailable) -> Problem:
    return read_only_store(str(error)) if isinstance(error, StoreReadOnly) else store_unavailable()


def _faults(document: Any, body: bytes) -> Iterable[Fault]:
    """The faults of each event by itself, since a decoder stops at its first one."""
    found = 0
    parts = {f"$[{n}]": event for n, event in enumerate(document)} if isinstance(document, list) else {"$": document}
    for place, event in parts.items():
        for fault in _faults_of_event(event, place):
            found += 1
            yield fault
        if found >= MAX_FAULTS:
            return
    if not found:  # whatever the parts do not show, the whole does
        try:
            _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield Fault("$", str(error))


def _faults_of_event(event: Any, place: str) -> Iterable[Fault]:
    if not isinstance(event, dict):
        yield Fault(place, f"an event or a list of them is allowed, got {kind_of(event)}")
        return
    for name in event.keys() - _FIELDS.keys():
        yield Fault(place, f"unknown field `{shown(name)}`; {', '.join(_FIELDS)} are allowed")
    for name, field in _FIELDS.items():
        if name in event and (event[name] is not None or not field.required):
            yield from faults_of_value(event[name], field.type, f"{place}.{name}")
        elif field.required:
            yield Fault(f"{place}.{name}" if name in event else place, f"`{name}` is missing")
