"""What callers and services say of the same requests, number by number, and where they differ."""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.long_run.traffic import OK, Alone, Leaves, Traffic, decode_answer

FEW = 10


class Ending(IntEnum):
    """How a request ended; the names are the service's own."""

    none = 0
    ok = 1
    error = 2
    shed = 3
    expired = 4
    invalid = 5
    cancelled = 6


ENDING_OF_STATUS = {200: Ending.ok, 422: Ending.invalid, 500: Ending.error, 503: Ending.shed, 504: Ending.expired}


class LogLine(msgspec.Struct):
    event: str
    request_id: str = ""
    outcome: str = ""


_decode_line = msgspec.json.Decoder(LogLine).decode


@dataclass
class Life:
    """One process from its start to its end: the heads that callers sent whole, and the endings that it logged."""

    arrived: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    logged: Counter[str] = field(default_factory=Counter)

    def differences(self, scraped: Counter[str]) -> list[str]:
        """Where its metrics (outcomes, and `offered`) are not what callers and log say; nothing is under way.

        Refusals are logged ten times a second at most, so of them the metrics alone know all.
        """
        offered, shed = scraped["offered"], scraped["shed"]
        expected = Counter({**self.logged, "shed": shed, "offered": self.arrived})
        ended = scraped.total() - offered
        found = [
            f"{name}: {scraped[name]} counted and {expected[name]} expected"
            for name in sorted(scraped.keys() | expected.keys())
            if scraped[name] != expected[name]
        ]
        if ended != offered:
            found.append(f"{offered} offered and {ended} ended")
        if (
            not max(self.answered["shed"], self.logged["shed"])
            <= shed
            <= self.arrived - self.logged.total() + self.logged["shed"]
        ):
            found.append(f"shed: {shed} counted, {self.answered['shed']} answered and {self.logged['shed']} logged")
        return found


class Verdicts(NamedTuple):
    """Numbers of requests that broke a promise."""

    lost: int
    doubled: int
    crossed: int
    wrong: int
    misjudged: int
    contradicted: int


class Ledger:
    """Notes what happens to each request. `examples` has the first few things that were wrong, in words."""

    def __init__(self, traffic: Traffic, alone: Alone) -> None:
        self._traffic = traffic
        self._alone = alone
        self._answers = np.zeros(len(traffic), np.uint8)
        self._logs = np.zeros(len(traffic), np.uint8)
        self._ending = np.zeros(len(traffic), np.uint8)  # as its caller was told
        self._logged = np.zeros(len(traffic), np.uint8)
        self.left = np.zeros(len(traffic), np.bool_)
        self.sent = np.zeros(len(traffic), np.bool_)
        self.asked_again = 0
        self.connections_refused = 0
        self.crossed = 0
        self.wrong = 0
        self.versions: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.examples: list[str] = []

    def answered(self, life: Life, number: int, request_id: str, status: int, body: bytes) -> None:
        """An answer arrived on a connection on which `number` was asked last."""
        ending = ENDING_OF_STATUS.get(status, Ending.none)
        self.statuses[status] += 1
        life.answered[ending.name] += 1
        self._answers[number] += 1
        self._ending[number] = ending
        if request_id != str(number):
            self.crossed += 1
            self._note(f"{number} was asked and {request_id!r} answered")
        elif status == OK:
            self._compare(number, body)

    def read_log(self, life: Life, line: bytes) -> None:
        said = _decode_line(line)
        if said.event == "rank":
            number = int(said.request_id)
            life.logged[said.outcome] += 1
            self._logs[number] += 1
            self._logged[number] = Ending[said.outcome]

    def verdicts(self) -> Verdicts:
        """Of all that was sent. Nothing is under way, and the logs were read to their end."""
        traffic = self._traffic
        answered = self._answers > 0
        lost = self.sent & ~self.left & ~answered
        doubled = (self._answers > 1) | (self._logs > 1)
        judged = answered & np.isin(self._ending, (Ending.ok, Ending.error))
        misjudged = (judged & ((self._ending == Ending.error) != traffic.poisoned)) | (
            answered & np.isin(self._ending, (Ending.none, Ending.invalid))
        )
        contradicted = answered & (self._ending != self._logged) & ~((self._ending == Ending.shed) & (self._logs == 0))
        early = traffic.leaves == Leaves.BEFORE_THE_BODY
        contradicted |= self.left & early & np.isin(self._logged, (Ending.ok, Ending.error))
        for what, numbers in (
            ("lost", lost),
            ("doubled", doubled),
            ("misjudged", misjudged),
            ("unlike its log", contradicted),
        ):
            for number in np.flatnonzero(numbers)[:FEW].tolist():
                self._note(f"{number} was {what}: {self._story(number)}")
        return Verdicts(
            int(lost.sum()), int(doubled.sum()), self.crossed, self.wrong, int(misjudged.sum()), int(contradicted.sum())
        )

    def _compare(self, number: int, body: bytes) -> None:
        answer = decode_answer(body)
        self.versions[answer.version] += 1
        if answer.request_id != str(number):
            self.crossed += 1
            self._note(f"{number} was asked and the body says {answer.request_id!r}")
        elif not self._alone.agrees(answer, int(self._traffic.body[number])):
            self.wrong += 1
            self._note(f"{number} was not ranked as {answer.version} ranks it alone: {body[:300]!r}")

    def _story(self, number: int) -> str:
        leaves = Leaves(self._traffic.leaves[number]).name.lower().replace("_", " ")
        poisoned = "poisoned, " if self._traffic.poisoned[number] else ""
        told, logged = Ending(self._ending[number]).name, Ending(self._logged[number]).name
        answers, logs = self._answers[number], self._logs[number]
        return f"leaves {leaves}, {poisoned}{answers} answers ({told}), {logs} log lines ({logged})"

    def _note(self, text: str) -> None:
        if len(self.examples) < FEW:
            self.examples.append(text)
