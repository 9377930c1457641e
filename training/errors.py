"""What training refuses, by name. A message is for the person who trains: what is wrong, where, and what to do."""

from collections.abc import Sequence
from pathlib import Path


class TrainingError(Exception):
    """There is no new model version."""


class TableError(TrainingError):
    """The table cannot be used. `faults` are sentences that name the column and the rows (counted from 1)."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{path.name}: {fault}" for fault in faults))


class SplitError(TrainingError):
    """The table is sound, yet no query can be held out to stop early by."""


class StoreError(TrainingError):
    """MLflow could not be reached or refused; no alias was moved."""


class ReplayError(TrainingError):
    """The marketplace does not have what is to be replayed."""
