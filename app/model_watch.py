"""The models, taken anew while rankings go on: what the settings name by now, and what follows when it changed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec
import structlog

from app.beside import beside
from app.experiment import Variant
from app.metrics import Metrics
from app.models import Served
from app.watch import Watch
from registry import Bundle, Fetched, RegistryError, RegistryUnavailable, read_bundle

log = structlog.get_logger("frontrow.models")

T = TypeVar("T")

Found = Mapping[Variant, Fetched | RegistryError]


class Refusal(NamedTuple):
    """A version that is not taken: what tells it from others, and why."""

    identity: object
    reason: str


class ModelWatch(Watch, Generic[T]):
    """Looks at the models when it is told to, and every `seconds` unless that is 0; never twice at once.

    fetch: asks for the models, in a thread. served: those that serve, by variant.
    prepare: makes what would rank with a new one. What it raises is why the model is refused, once: the one before it
        serves on. use: takes all that was prepared into use at once, on the loop.
    lock: held from before `prepare` until after `use`, so that nothing else changes meanwhile.
    """

    def __init__(
        self,
        *,
        seconds: float,
        served: Mapping[Variant, Served],
        fetch: Callable[[], Found],
        prepare: Callable[[Variant, Fetched, Bundle], Awaitable[T]],
        use: Callable[[Mapping[Variant, T]], Awaitable[None]],
        confirm: Callable[[Variant, Fetched], None],
        metrics: Metrics,
        lock: asyncio.Lock,
    ) -> None:
        self._seconds = seconds
        self._served = served
        self._fetch = fetch
        self._prepare = prepare
        self._use = use
        self._confirm = confirm
        self._metrics = metrics
        self._lock = lock
        self._refused: dict[Variant, Refusal] = {}
        self._told = asyncio.Event()

    def look_soon(self) -> None:
        """Look now, or once more when a look is under way: the model may have changed behind it."""
        self._told.set()

    def refused(self) -> dict[Variant, str]:
        """Why what is named by now does not serve, by variant."""
        return {variant: refusal.reason for variant, refusal in self._refused.items()}

    async def look(self) -> None:
        """Take the models into use that the settings name by now. Returns when they serve, or are refused."""
        found = await beside(self._fetch)
        async with self._lock:
            prepared = {variant: await self._prepared(variant, one) for variant, one in found.items()}
            if ready := {variant: one for variant, one in prepared.items() if one is not None}:
                await self._use(ready)

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds or None):
                    await self._told.wait()
            if self._told.is_set():
                self._told.clear()
                self._refused.clear()  # who tells us to look may have mended something
            try:
                await self.look()
            except Exception:
                log.exception("the models could not be looked at")

    async def _prepared(self, variant: Variant, found: Fetched | RegistryError) -> T | None:
        """What would rank with the model found; None when nothing changes."""
        if isinstance(found, RegistryUnavailable) or (isinstance(found, Fetched) and found.origin == "last-known-good"):
            self._metrics.swap_ended(variant, "unreachable")
            reason = found.detail if isinstance(found, Fetched) else str(found)
            log.warning("the registry cannot be asked, so the models stay", variant=variant, reason=reason)
            return None
        identity: object = str(found)
        try:
            fetched, bundle = await beside(partial(_bundle_of, found))
            identity = identity_of(bundle)
            if identity == identity_of(self._served[variant].model.bundle):
                self._refused.pop(variant, None)
                self._confirm(variant, fetched)
                return None
            if self._is_refused(variant, identity):
                return None
            prepared = await self._prepare(variant, fetched, bundle)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a model, the one before it serves on
            self._refuse(variant, identity, str(error) or repr(error))
            error.__traceback__ = None  # its frames hold it, where it is what was found: no circle is left
            return None
        self._refused.pop(variant, None)
        return prepared

    def _is_refused(self, variant: Variant, identity: object) -> bool:
        return variant in self._refused and self._refused[variant].identity == identity

    def _refuse(self, variant: Variant, identity: object, reason: str) -> None:
        if self._is_refused(variant, identity):
            return
        self._refused[variant] = Refusal(identity, reason)
        self._metrics.swap_ended(variant, "refused")
        log.error("a model is not taken", variant=variant, reason=reason)


def _bundle_of(found: Fetched | RegistryError) -> tuple[Fetched, Bundle]:
    """Raises what is wrong with it."""
    if isinstance(found, RegistryError):
        raise found
    return found, read_bundle(found.folder)


def identity_of(bundle: Bundle) -> Bundle:
    """Equal for bundles of which one may stand for the other, wherever they are."""
    return msgspec.structs.replace(bundle, folder=Path(), alias=None, source="")
