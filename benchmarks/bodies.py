"""What is sent: random requests like the service's own example, or bodies from a file."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BadBodies, Unanswered
from benchmarks.target import Target

DIFFERENT_BODIES = 250
SEED = 7
SPREAD = 0.5  # of a number that the example has only once: so much more or less


@dataclass(frozen=True)
class Body:
    """A request's JSON and the headers that belong to it alone."""

    json: bytes
    headers: Mapping[str, str]


def payloads(target: Target, bodies: Iterable[Body], headers: Mapping[str, str]) -> list[bytes]:
    """Whole HTTP/1.1 requests, ready for the wire. `headers` win over a body's own."""
    return [_payload(target, body, headers) for body in bodies]


def _payload(target: Target, body: Body, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": target.authority, "Content-Type": "application/json"}
    lines = _merged(fields, body.headers, headers, {"Content-Length": str(len(body.json))})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body.json


def _merged(*several: Mapping[str, str]) -> dict[str, str]:
    """One dictionary of headers, in which the last one of a name counts, whatever its case."""
    merged: dict[str, tuple[str, str]] = {}
    for headers in several:
        merged |= {name.lower(): (name, value) for name, value in headers.items()}
    return dict(merged.values())


def read_bodies(path: Path) -> list[Body]:
    """One JSON document, or one a line."""
    text = path.read_text(encoding="utf-8")
    documents = [text] if _is_json(text) else [line for line in text.splitlines() if line.strip()]
    for number, document in enumerate(documents, 1):
        if not _is_json(document):
            raise BadBodies(f"{path}: neither one JSON document nor one a line; line {number} is not JSON")
    if not documents:
        raise BadBodies(f"{path}: is empty")
    return [Body(document.strip().encode(), {}) for document in documents]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_ids(path: Path) -> list[str]:
    """Activity ids: one a line, or the `id` column of a Parquet catalog."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        ids = pyarrow.parquet.read_table(path, columns=["id"])["id"].to_pylist()
    else:
        ids = path.read_text(encoding="utf-8").split()
    if not ids:
        raise BadBodies(f"{path}: has no ids")
    return list(map(str, ids))


@dataclass(frozen=True)
class Example:
    """What the service says a request looks like: contexts and features with the values that each may take."""

    context: Mapping[str, Sequence[Any]]
    features: Mapping[str, Sequence[Any]]


def ask_example(target: Target) -> Example:
    """Read the example of `target.path` from the service's `/openapi.json`; raises BadBodies where there is none."""
    document = target.request("GET", "/openapi.json").json() or {}
    try:
        content = document["paths"][target.path]["post"]["requestBody"]["content"]["application/json"]
        example = content["example"]
        candidates = example["candidates"]
    except (KeyError, TypeError) as error:
        raise BadBodies(f"{target.url}: /openapi.json has no example of it to make bodies from; give --body") from error
    rows = [candidate["features"] for candidate in candidates if isinstance(candidate, dict)]
    schemas = document.get("components", {}).get("schemas", {})
    return Example(
        _values([example.get("context", {})], schemas.get("Context", {})),
        _values(rows, schemas.get("Features", {})),
    )


def _values(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return each name's values in `rows`, and what its schema gives as examples."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, list(schema.get("properties", {}).get(name, {}).get("examples", []))).append(value)
    return values


def random_bodies(example: Example, sizes: tuple[int, int], ids: Sequence[str] | None) -> list[Body]:
    """Make `DIFFERENT_BODIES` requests with between `sizes` candidates, the same ones in every run.

    With `ids` the candidates are ids alone, without them each brings features of its own.
    """
    chance = random.Random(SEED)
    if ids is not None and len(ids) < sizes[1]:
        raise BadBodies(f"{len(ids)} ids are too few for {sizes[1]} different candidates")
    return [_random_body(example, chance.randint(*sizes), ids, chance, number) for number in range(DIFFERENT_BODIES)]


def _random_body(example: Example, size: int, ids: Sequence[str] | None, chance: random.Random, number: int) -> Body:
    candidates: list[Any] = (
        chance.sample(ids, size)
        if ids is not None
        else [{"id": f"bench-{place}", "features": _vary(example.features, chance)} for place in range(size)]
    )
    document: dict[str, Any] = {"candidates": candidates}
    if example.context:
        document["context"] = _vary(example.context, chance)
    return Body(json.dumps(document, separators=(",", ":")).encode(), {"X-Visitor-Id": f"bench-{number}"})


def _vary(values: Mapping[str, Sequence[Any]], chance: random.Random) -> dict[str, Any]:
    return {name: _one_of(seen, chance) for name, seen in values.items()}


def _one_of(seen: Sequence[Any], chance: random.Random) -> Any:
    """Return a number between the least and the greatest seen, of the same type; of anything else one of those seen."""
    numbers = [value for value in seen if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(seen):
        return chance.choice(seen)
    low, high = min(numbers), max(numbers)
    if low == high:
        low, high = sorted((low * (1 - SPREAD), high * (1 + SPREAD)))
    value = chance.uniform(low, high)
    return round(value) if all(isinstance(number, int) for number in numbers) else round(value, 4)


def check_answered(target: Target, body: Body, headers: Mapping[str, str]) -> None:
    """Send one request before the load; raises Unanswered when it is no success, with what the server says."""
    fields = _merged({"Content-Type": "application/json"}, body.headers, headers)
    answer = target.request("POST", target.path, body.json, fields)
    if not 200 <= answer.status < 300:
        said = answer.body[:300].decode(errors="replace").strip()
        raise Unanswered(f"POST {target.url}: answered {answer.status} to the first request: {said}")
