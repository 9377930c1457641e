"""Requests by number: what each asks, when its caller hangs up, and what the only right answers are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import Example, ask_example, random_bodies
from benchmarks.errors import BadBodies, Unanswered
from benchmarks.target import RANK_PATH, Target

POISON = -666.0625  # nothing costs that
POISONED_EVERY = 1_000
SIZES = (2, 12)
OVERSIZE, OVERSIZE_BODIES, OVERSIZE_SHARE = 600, 2, 0.005  # more rows than a batch takes
LONGEST_MOMENT_SECONDS = 0.005
SEED = 12
OK = 200


class Leaves(IntEnum):
    """When a caller hangs up."""

    NEVER = 0
    IN_THE_HEADERS = 1
    BEFORE_THE_BODY = 2
    AFTER_THE_BODY = 3
    A_MOMENT_LATER = 4


LEAVES_SHARES = (0.66, 0.06, 0.06, 0.12, 0.1)  # of the last ones some are answered before


class Answered(msgspec.Struct):
    """What is compared of an answer; `ranking` stays the text that it was, in which no bit of a score can hide."""

    request_id: str
    model: dict[str, str]
    ranking: msgspec.Raw
    unknown_candidates: list[str]
    degraded: bool

    @property
    def version(self) -> str:
        return f"{self.model['name']}/{self.model['version']}"

    @property
    def said(self) -> tuple[bytes, tuple[str, ...], bool]:
        return bytes(self.ranking), tuple(self.unknown_candidates), self.degraded


decode_answer = msgspec.json.Decoder(Answered).decode


@dataclass(frozen=True)
class Bodies:
    """Different bodies, the oversize ones last, and the same ones with a candidate that fails whatever scores it."""

    plain: Sequence[bytes]
    poisoned: Sequence[bytes]


class Alone:
    """What each model version says of each body when nobody else asks: `versions[version][body]`."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Any]] = {}

    def ask(self, target: Target, bodies: Sequence[bytes]) -> str:
        """Ask a service that has one model for all of them, one after the other. Returns the version that it names."""
        found = [decode_answer(_rank(target, body)) for body in bodies]
        (version,) = {one.version for one in found}
        self.versions[version] = [one.said for one in found]
        return version

    def agrees(self, answer: Answered, body: int) -> bool:
        """Whether the version that the answer names says just that of the body, to the last bit."""
        known = self.versions.get(answer.version)
        return known is not None and known[body] == answer.said


@dataclass(frozen=True)
class Traffic:
    """Of each number: its body's place in `bodies`, when its caller leaves, and whether it is poisoned."""

    bodies: Bodies
    body: NDArray[np.int32]
    leaves: NDArray[np.int8]
    moments: NDArray[np.float32]
    poisoned: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.body)

    def request(self, number: int) -> tuple[bytes, bytes]:
        """Head and body."""
        kind = self.bodies.poisoned if self.poisoned[number] else self.bodies.plain
        body = kind[self.body[number]]
        head = (
            f"POST {RANK_PATH} HTTP/1.1\r\nHost: frontrow\r\nContent-Type: application/json\r\n"
            f"X-Request-Id: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode(), body


def draw_traffic(bodies: Bodies, requests: int) -> Traffic:
    random = np.random.default_rng(SEED)
    ordinary = len(bodies.plain) - OVERSIZE_BODIES
    oversize = random.random(requests) < OVERSIZE_SHARE
    body = np.where(
        oversize, random.integers(ordinary, len(bodies.plain), requests), random.integers(ordinary, size=requests)
    )
    poisoned = np.zeros(requests, np.bool_)
    poisoned[random.choice(requests, max(1, requests // POISONED_EVERY), replace=False)] = True
    return Traffic(
        bodies,
        body.astype(np.int32),
        random.choice(len(Leaves), requests, p=LEAVES_SHARES).astype(np.int8),
        random.uniform(0, LONGEST_MOMENT_SECONDS, requests).astype(np.float32),
        poisoned,
    )


def make_bodies(examples: Sequence[Example], poisoned_feature: str) -> Bodies:
    """Bodies of features that all of the models have; the candidates' ids are those of no other body."""
    context, features = (_shared([getattr(one, role) for one in examples]) for role in ("context", "features"))
    if poisoned_feature not in features:
        raise BadBodies(f"no example has the feature {poisoned_feature!r} of both models")
    example = Example(context, features)
    ordinary = random_bodies(example, SIZES, None)
    oversize = random_bodies(example, (OVERSIZE, OVERSIZE), None)[:OVERSIZE_BODIES]
    documents = [json.loads(body.json) for body in (*ordinary, *oversize)]
    for number, document in enumerate(documents):
        for place, candidate in enumerate(document["candidates"]):
            candidate["id"] = f"{number}-{place}"
    plain = [_encode(document) for document in documents]
    for document in documents:
        document["candidates"][len(document["candidates"]) // 2]["features"][poisoned_feature] = POISON
    return Bodies(plain, [_encode(document) for document in documents])


def describe(target: Target) -> tuple[Example, set[str]]:
    """What a service's requests look like, and the numbers among the features of its model's activities."""
    models = target.request("GET", "/v1/models").json()["models"]
    numbers = {
        feature["name"]
        for model in models
        for feature in model["features"]
        if (feature["role"], feature["type"]) == ("activity", "number")
    }
    return ask_example(target), numbers


def _shared(several: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, Sequence[Any]]:
    first, *others = several
    return {name: values for name, values in first.items() if all(name in other for other in others)}


def _rank(target: Target, body: bytes) -> bytes:
    answer = target.request("POST", RANK_PATH, body, {"Content-Type": "application/json"})
    if answer.status != OK:
        raise Unanswered(f"{target.url}: answered {answer.status} to {body[:200]!r}: {answer.body[:200]!r}")
    return answer.body


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
