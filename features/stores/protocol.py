"""What every store of visitor histories does."""

from collections.abc import Sequence
from typing import Protocol

from features.events import Event


class StoreUnavailable(Exception):
    """The store did not do what was asked. Events may or may not be kept; sending them again is safe."""


class StoreReadOnly(StoreUnavailable):
    """The store is written by somebody else, here never. Sending it again is in vain."""


class HistoryStore(Protocol):
    """Packed histories by visitor. Its waits are bounded, in the order of a second; a budget is the caller's to keep.

    Every method but `close` raises `StoreUnavailable`.
    """

    name: str

    async def append(self, events: Sequence[Event]) -> None:
        """Keep the events, each once. When this returns, every later `fetch` sees them. Raises `EventError` too."""

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        """What is kept for each visitor's key, in their order, in one round trip. None: nothing."""

    async def delete(self, visitor: bytes) -> None:
        """Forget everything about a visitor's key."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
