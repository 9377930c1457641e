"""What is looked at again and again while a service runs."""

import asyncio
from contextlib import suppress


class Watch:
    """A task on the loop, from `start` to `stop`."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        """Look, for ever."""
        raise NotImplementedError
