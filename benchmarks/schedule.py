"""When requests are due: arithmetic only, no clock."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BadSchedule

MOST_REQUESTS = 20_000_000
_PHASE = re.compile(r"(?P<seconds>\d+(\.\d+)?)s@(?P<load>\d+(\.\d+)?)(?P<relative>C?)")


@dataclass(frozen=True)
class Phase:
    """A stretch of constant load: requests a second."""

    seconds: float
    rate: float

    @property
    def requests(self) -> int:
        return round(self.seconds * self.rate)


@dataclass(frozen=True)
class Load:
    """A stretch of constant load as it was asked for: requests a second, or multiples of the capacity C."""

    seconds: float
    amount: float
    in_capacities: bool = False

    def phase(self, capacity: float) -> Phase:
        return Phase(self.seconds, self.amount * capacity if self.in_capacities else self.amount)


@dataclass(frozen=True)
class Schedule:
    """Phases one after another, with arrivals spaced evenly or, in each phase, as those of a Poisson process.

    Even arrivals of two generators stay in step for the whole run, so that one server may always have to wait for the
    other; random ones never do.
    """

    phases: tuple[Phase, ...]
    random: bool = False

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    @property
    def requests(self) -> int:
        return sum(phase.requests for phase in self.phases)

    @property
    def peak(self) -> float:
        """The highest rate, requests a second."""
        return max(phase.rate for phase in self.phases)

    def starts(self) -> list[float]:
        """Where each phase begins and the last one ends, seconds from the start."""
        return [0.0, *np.cumsum([phase.seconds for phase in self.phases]).tolist()]

    def due(self) -> npt.NDArray[np.float64]:
        """When each request is due, seconds from the start, ascending."""
        arrivals = _random if self.random else _even
        pieces = (start + arrivals(phase) for start, phase in zip(self.starts()[:-1], self.phases, strict=True))
        return np.concatenate(list(pieces))


def _even(phase: Phase) -> npt.NDArray[np.float64]:
    return np.arange(phase.requests) / phase.rate


def _random(phase: Phase) -> npt.NDArray[np.float64]:
    """A Poisson process of which the number of arrivals is known: independent and uniform, then sorted."""
    return np.sort(np.random.default_rng().random(phase.requests)) * phase.seconds


def schedule(loads: Iterable[Load], capacity: float, *, random: bool = False) -> Schedule:
    """Put `loads` one after another; `capacity` is what C stands for, requests a second.

    Raises BadSchedule when no request or more than `MOST_REQUESTS` would be sent.
    """
    made = Schedule(tuple(load.phase(capacity) for load in loads), random)
    if not 1 <= made.requests <= MOST_REQUESTS:
        raise BadSchedule(f"{made.requests:,} requests are due; between 1 and {MOST_REQUESTS:,} can be sent in a run")
    return made


def parse_loads(text: str, seconds: float) -> list[Load]:
    """Read `0.5,0.8,2` as multiples of capacity, `seconds` long each."""
    try:
        amounts = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise BadSchedule(f"loads {text!r}: write multiples of capacity with commas between, as 0.5,0.8,2") from error
    return [Load(seconds, _positive(amount, text), in_capacities=True) for amount in amounts]


def parse_profile(text: str) -> list[Load]:
    """Read `10s@0.8C,10s@3C,5s@400`: seconds at a multiple of capacity, or at requests a second."""
    return [_parse_phase(word.strip(), text) for word in text.split(",")]


def _parse_phase(word: str, text: str) -> Load:
    match = _PHASE.fullmatch(word)
    if not match:
        raise BadSchedule(f"profile {text!r}: {word!r} is not of the form 10s@0.8C or 10s@400")
    seconds, amount = (_positive(float(match[name]), text) for name in ("seconds", "load"))
    return Load(seconds, amount, in_capacities=bool(match["relative"]))


def _positive(value: float, text: str) -> float:
    if not 0 < value < float("inf"):
        raise BadSchedule(f"{text!r}: {value:g} is no load; every number must be over 0")
    return value


def falls(phases: Sequence[Phase]) -> list[int]:
    """Numbers of the phases that begin with less load than the one before: where recovery is looked for."""
    return [number for number in range(1, len(phases)) if phases[number].rate < phases[number - 1].rate]
