"""A shape with every kind of field, and bodies of it: those that callers send, and those with a few bytes changed."""

import json
import random
from collections.abc import Iterator
from typing import Any

from app.schemas import Field, RequestShape

CATEGORIES = (
    "museum",
    "",
    "opera buffa",
    "caf\u00e9",
    'the "best"',
    "back\\slash",
    "tab\t",
    "x" * 300,
    "y" * 250,
    "null",
)
ACTIVITY = (
    Field("price", "number"),
    Field("rating", "number"),
    Field("reviews", "integer"),
    Field("free", "boolean"),
    Field("kind", "category", CATEGORIES),
    Field("place", "category", ("museum", "museums", "Z\u00fcrich")),
    Field("id", "number"),
    Field("features", "boolean"),
    Field("a name that is longer than two words", "number"),
    Field("a name that is longer than two word", "number"),
    Field("gr\u00f6\u00dfe", "number"),
    Field("e", "number"),
)
CONTEXT = (Field("device", "category", ("mobile",)), Field("days", "integer"), Field("candidates", "number"))


def shape(max_candidates: int = 40) -> RequestShape:
    return RequestShape(CONTEXT, ACTIVITY, max_candidates=max_candidates)


def value(field: Field, draw: random.Random) -> Any:
    if draw.random() < 0.1:
        return None
    if field.type == "category":
        plain = ("museum", "", "opera buffa", "y" * 250, "null") if field.name == "kind" else field.categories
        return draw.choice(plain) if draw.random() < 0.99 else draw.choice([*field.categories, "unheard of"])
    if field.type == "boolean":
        return draw.random() < 0.5
    if field.type == "integer":
        return draw.choice([0, 7, -12, 900, 12.0, 2**53 - draw.randrange(9), draw.randrange(10**9)])
    return draw.choice([0, 1, -2.5, 39.99, 1e-7, -0.0, round(draw.gauss(0, 100), 4), draw.gauss(0, 1), 1e22])


def document(draw: random.Random) -> dict[str, Any]:
    """What a caller sends, with features and without, in the order of the fields mostly."""
    candidates: list[Any] = []
    for number in range(draw.choice([1, 2, 3, 8])):
        given = [field for field in ACTIVITY if draw.random() < 0.9]
        if draw.random() < 0.2:
            draw.shuffle(given)
        features = {field.name: value(field, draw) for field in given}
        name = f"A{number}" if draw.random() < 0.99 else draw.choice(["caf\u00e9", "A" * 128, "A" * 129, ""])
        candidates.append(
            draw.choice([name, {"id": name}]) if draw.random() < 0.2 else {"id": name, "features": features}
        )
    members: list[tuple[str, Any]] = [("candidates", candidates)]
    if draw.random() < 0.7:
        members.append(("context", {"device": draw.choice(["mobile", ']}\\"', "[{"]), "days": 12, "candidates": 1.5}))
    if draw.random() < 0.3:
        members.append(("top_k", draw.choice([3, 3.0, 1])))
    if draw.random() < 0.1:
        members.append(("explain", None))
    if draw.random() < 0.02 and isinstance(candidates[-1], dict):
        del candidates[-1]["id"]
    draw.shuffle(members)
    return dict(members)


def encoded(what: dict[str, Any], draw: random.Random) -> bytes:
    separators = draw.choice([(",", ":"), (", ", ": "), (" ,\n\t", "\r : ")])
    return json.dumps(what, separators=separators, ensure_ascii=False).encode()


PIECES = (
    *(bytes([byte]) for byte in b'{}[],:"\\ \n\x00\x1f\x7f\x80-+.09e'),
    *(b"\xc3\xa9", b"E5", b"1e400", b"12345678", b"0.1234567890123456789", b"9007199254740993"),
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"//", b"\\u0041", b'\\"', b"{}", b"[]"),
    *(b'"id"', b'"features"', b'"candidates"', b'"price":1,', b',"A1"'),
)

NUMERALS = [*(bytes([byte]) for byte in b"0123456789.-+eE "), b"00", b".0", b"e0", b"e-3", b"1234567890"]


def changed(body: bytes, draw: random.Random) -> bytes:
    """The body with one to three pieces of it written over, put in, left out, doubled, or moved; or one in a number."""
    if draw.random() < 0.3:
        at = draw.choice([place for place, byte in enumerate(body) if byte in b"0123456789.-e"] or [0])
        return body[: at + draw.randrange(2)] + draw.choice(NUMERALS) + body[at + 1 :]
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        at, until = sorted((draw.randrange(len(body) + 1), draw.randrange(len(body) + 1)))
        until = min(until, at + draw.choice([1, 1, 2, 8, 60]))
        how = draw.randrange(6)
        if how == 0:
            body = body[:at] + draw.choice(PIECES) + body[at:]
        elif how == 1:
            body = body[:at] + draw.choice(PIECES) + body[until:]
        elif how == 2:
            body = body[:at] + body[until:]
        elif how == 3:
            body = body[:until] + body[at:until] + body[until:]
        elif how == 4 and at < len(body):
            body = body[:at] + bytes([body[at] ^ 1 << draw.randrange(8)]) + body[at + 1 :]
        else:
            there = draw.randrange(len(body) + 1)
            body = body[:there] + body[at:until] + body[there:]
    return body


def bodies(count: int, seed: int) -> Iterator[bytes]:
    """Many bodies, an eighth of them as they were before they were changed."""
    draw = random.Random(seed)
    for number in range(count):
        if number % 8 == 0:
            original = encoded(document(draw), draw)
            yield original
        else:
            yield changed(original, draw)
