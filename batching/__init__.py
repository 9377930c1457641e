"""The micro-batcher and its admission control. Imports nothing of ours and nothing but the standard library."""

from batching.batcher import Batcher
from batching.calibration import calibrate, measure_handover
from batching.errors import (
    BatchingError,
    DeadlineOutOfReach,
    Draining,
    Expired,
    NotStarted,
    Overloaded,
    QueueFull,
    ScoringFailed,
    Shed,
    UnknownLane,
    WrongLength,
)
from batching.lanes import Lane
from batching.policy import Cost, Limits, Priority
from batching.report import BatchOutcome, BatchReport, DispatchReason, LaneStats, Outcome, Scored, Stats
from batching.thread import Executor, ScoringThread
from batching.waiting import Ticket

__all__ = [
    "BatchOutcome",
    "BatchReport",
    "Batcher",
    "BatchingError",
    "Cost",
    "DeadlineOutOfReach",
    "DispatchReason",
    "Draining",
    "Executor",
    "Expired",
    "Lane",
    "LaneStats",
    "Limits",
    "NotStarted",
    "Outcome",
    "Overloaded",
    "Priority",
    "QueueFull",
    "Scored",
    "ScoringFailed",
    "ScoringThread",
    "Shed",
    "Stats",
    "Ticket",
    "UnknownLane",
    "WrongLength",
    "calibrate",
    "measure_handover",
]
