"""Memory that one text after another is put into, so that none has to be found for each."""

from typing import Final

import numpy as np

FIRST_BYTES: Final = 4_096


class Room:
    """`text` for kernels, and `view`, the same bytes for Python. For one thread, and one text at a time."""

    def __init__(self) -> None:
        self._make(FIRST_BYTES)

    def hold(self, size: int) -> None:
        """Have place for so many bytes. What was there may be gone."""
        if size > len(self.view):
            self._make(2 * size)

    def _make(self, size: int) -> None:
        self.text = np.empty(size, np.uint8)
        self.view = self.text.data
