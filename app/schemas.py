"""The wire format of `/v1/rank`, made from the running models.

`RequestShape` is the one place that knows which fields a request may have: it decodes bodies, finds every fault of a
bad one, and gives the JSON Schema of the OpenAPI document, all from the same types.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.errors import Fault, invalid_request, malformed_json, too_many_candidates
from registry import Feature

MAX_DEPTH = 32
MAX_FAULTS = 50
SAFE_INTEGER = 2**53
MAX_ID_LENGTH = 128
MAX_CATEGORY_LENGTH = 256

FieldType = Literal["number", "integer", "boolean", "category"]
ActivityId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]


def _whole_number(least: int) -> Any:
    # JSON has one kind of number: 12.0 is as whole as 12, and clients whose column also holds gaps send it.
    return (
        Annotated[int, Meta(ge=least, le=SAFE_INTEGER)]
        | Annotated[float, Meta(ge=least, le=SAFE_INTEGER, multiple_of=1)]
    )


TopK = _whole_number(1)

_TYPES: dict[FieldType, Any] = {
    "number": float,
    "integer": _whole_number(-SAFE_INTEGER),
    "boolean": bool,
    "category": Annotated[str, Meta(max_length=MAX_CATEGORY_LENGTH)],
}


class ShapeError(Exception):
    """The two models cannot be served behind one request shape."""


class Field(NamedTuple):
    """A name that a request may use. `categories` are those that some model knows; others are "missing"."""

    name: str
    type: FieldType
    categories: tuple[str, ...] = ()


class Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A candidate with features of its own; a bare id stands for one without."""

    id: ActivityId
    features: Any = None


class RankRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A decoded body. `context` and each candidate's `features` are structs of `RequestShape`."""

    candidates: Sequence[Any]
    context: Any = None
    top_k: int | None = None
    explain: bool | None = None


class RankHead(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a request says besides its candidates."""

    context: Any = None
    top_k: int | None = None
    explain: bool | None = None


class RankedActivity(msgspec.Struct, gc=False):
    id: str
    score: float
    position: int


class Contribution(msgspec.Struct, gc=False):
    """What a feature's value added to a score."""

    feature: str
    value: str | bool | int | float | None
    contribution: float


class Explanation(msgspec.Struct, gc=False):
    """Why a candidate got its score: `base`, the mean score, `features` and `others` add up to it."""

    id: str
    base: float
    features: list[Contribution]
    others: float


class ModelVersion(msgspec.Struct, frozen=True):
    name: str
    version: str


class RankResponse(msgspec.Struct, gc=False):
    request_id: str
    variant: Literal["control", "treatment", "interleaved"]
    assignment: Literal["hash", "forced", "fallback"]
    model: ModelVersion
    ranking: Sequence[RankedActivity]
    unknown_candidates: list[str]
    degraded: bool
    explanations: list[Explanation] | UnsetType = UNSET


class RequestShape:
    """Fields of the context and of a candidate's features, each ordered with the numbers first and categories last."""

    def __init__(self, context: Iterable[Field], activity: Iterable[Field], *, max_candidates: int) -> None:
        self.context = tuple(sorted(context, key=lambda field: field.type == "category"))
        self.activity = tuple(sorted(activity, key=lambda field: field.type == "category"))
        self.max_candidates = max_candidates
        self.context_type = _struct("Context", self.context)
        self.features_type = _struct("Features", self.activity)
        self.candidate_type = msgspec.defstruct(
            "Candidate", [("features", self.features_type | None, None)], bases=(Candidate,), forbid_unknown_fields=True
        )
        self.request_type = msgspec.defstruct(
            "RankRequest",
            [
                ("candidates", list[ActivityId | self.candidate_type]),  # type: ignore[name-defined]
                ("context", self.context_type | None, None),
                ("top_k", TopK | None, None),
                ("explain", bool | None, None),
            ],
            bases=(RankRequest,),
            forbid_unknown_fields=True,
            kw_only=True,
        )
        self._decoder: msgspec.json.Decoder[RankRequest] = msgspec.json.Decoder(self.request_type)
        # What a body says besides its candidates, which come by another way.
        head_fields = [
            ("context", self.context_type | None, None),
            ("top_k", TopK | None, None),
            ("explain", bool | None, None),
        ]
        self.rest_type = msgspec.defstruct(
            "RankRequest",
            [("candidates", None), *head_fields],
            bases=(RankRequest,),
            forbid_unknown_fields=True,
            kw_only=True,
        )
        self.head_type = msgspec.defstruct("RankHead", head_fields, bases=(RankHead,), forbid_unknown_fields=True)
        self._head_decoder: msgspec.json.Decoder[RankHead] = msgspec.json.Decoder(self.head_type)

    @classmethod
    def of_models(
        cls, models: Mapping[str, Sequence[Feature]], *, max_candidates: int, extra: Mapping[str, Sequence[Field]]
    ) -> "RequestShape":
        """The union of what the models ask for and what the rules around them (`extra`, by role) want to see.

        Raises `ShapeError` where two models give one name different roles or types.
        """
        fields: dict[str, Field] = {}
        roles: dict[str, str] = {}
        for variant, features in models.items():
            for feature in features:
                known = fields.get(feature.name)
                if known is not None and (known.type, roles[feature.name]) != (feature.type, feature.role):
                    raise ShapeError(
                        f"{variant}: feature {feature.name!r} is a {feature.role} {feature.type}, "
                        f"but another variant has it as a {roles[feature.name]} {known.type}"
                    )
                categories = dict.fromkeys((*(known.categories if known else ()), *(feature.categories or ())))
                fields[feature.name] = Field(feature.name, feature.type, tuple(categories))
                roles[feature.name] = feature.role
        for role, extras in extra.items():
            for field in extras:
                if roles.setdefault(field.name, role) != role:
                    raise ShapeError(
                        f"the rules want {field.name!r} as {role}, but a model has it as {roles[field.name]}"
                    )
                fields.setdefault(field.name, field)
        return cls(
            (field for name, field in fields.items() if roles[name] == "context"),
            (field for name, field in fields.items() if roles[name] == "activity"),
            max_candidates=max_candidates,
        )

    def decode(self, body: bytes) -> RankRequest:
        """The request in `body`. Raises `Problem`: 400 for what is no JSON, 413 for too many candidates, else 422."""
        try:
            request = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._explain(body, self._decoder)
        if len(request.candidates) > self.max_candidates:
            raise too_many_candidates(len(request.candidates), self.max_candidates)
        check_unique(candidate_ids(request.candidates), "$.candidates[{}]")
        if request.top_k is not None:
            request.top_k = int(request.top_k)  # 10.0 is allowed
        return request

    def decode_head(self, head: bytes) -> RankHead:
        """What a body says besides its candidates, which come by another way. Raises `Problem`: 400 or 422."""
        try:
            decoded = self._head_decoder.decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._explain(head, self._head_decoder)
        if decoded.top_k is not None:
            decoded.top_k = int(decoded.top_k)
        return decoded

    def _explain(self, body: bytes, decoder: msgspec.json.Decoder[Any]) -> NoReturn:
        """Raise the answer to a body that did not decode, with the place of each of its faults."""
        document = read_document(body)
        candidates = document.get("candidates") if isinstance(document, dict) else None
        if isinstance(candidates, list) and len(candidates) > self.max_candidates:
            raise too_many_candidates(len(candidates), self.max_candidates)
        raise invalid_request(list(self._faults(document, body, decoder))[:MAX_FAULTS])

    def _faults(self, document: Any, body: bytes, decoder: msgspec.json.Decoder[Any]) -> Iterable[Fault]:
        """The faults of each part by itself, since a decoder stops at its first one."""
        found = 0
        if isinstance(document, dict):
            for fault in self._faults_of_parts(document, decoder.type.__struct_fields__):
                found += 1
                yield fault
                if found == MAX_FAULTS:
                    return
        if not found:  # whatever the parts do not show, the whole does
            try:
                decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield _fault(error, "$")

    def _faults_of_parts(self, document: dict[str, Any], parts: Sequence[str]) -> Iterable[Fault]:
        for name in document.keys() - set(parts):
            yield Fault("$", f"unknown field `{shown(name)}`; {', '.join(parts)} are allowed")
        if "candidates" in parts and "candidates" not in document:
            yield Fault("$", "`candidates` is missing")
        yield from _faults_of_object(document.get("context"), self.context, "$.context")
        candidates = document.get("candidates", []) if "candidates" in parts else []
        if not isinstance(candidates, list):
            yield Fault("$.candidates", f"a list is allowed, got {kind_of(candidates)}")
            return
        for position, candidate in enumerate(candidates):
            yield from self._faults_of_candidate(candidate, f"$.candidates[{position}]")
        yield from faults_of_value(document.get("top_k"), TopK, "$.top_k")
        yield from faults_of_value(document.get("explain"), bool, "$.explain")

    def _faults_of_candidate(self, candidate: Any, place: str) -> Iterable[Fault]:
        if isinstance(candidate, str):
            yield from faults_of_value(candidate, ActivityId, place)
        elif isinstance(candidate, dict):
            for name in candidate.keys() - {"id", "features"}:
                yield Fault(place, f"unknown field `{shown(name)}`; id and features are allowed")
            if "id" not in candidate:
                yield Fault(place, "`id` is missing")
            elif candidate["id"] is None:
                yield Fault(f"{place}.id", "a string is allowed, got null")
            else:
                yield from faults_of_value(candidate["id"], ActivityId, f"{place}.id")
            yield from _faults_of_object(candidate.get("features"), self.activity, f"{place}.features")
        else:
            yield Fault(place, f"an id or an object with id and features is allowed, got {kind_of(candidate)}")


def read_document(body: bytes) -> Any:
    """A body as JSON has it, whatever it should have been. Raises `Problem`: 400 for what is no JSON, else 422."""
    document = _parsed(body, _not_finite)
    if _depth_exceeds(document, MAX_DEPTH):
        raise invalid_request([Fault("$", f"nested deeper than {MAX_DEPTH}")])
    return document


def read_python_document(body: bytes) -> Any:
    """The same of JSON as Python writes it, where `NaN`, `Infinity` and `-Infinity` are numbers, and of any depth."""
    return _parsed(body, float)


def _parsed(body: bytes, constant: Callable[[str], float]) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=constant)
    except RecursionError:
        raise invalid_request([Fault("$", f"nested deeper than {MAX_DEPTH}")]) from None
    except _NotFiniteError as error:
        raise invalid_request([Fault("$", f"{error} is not a finite number")]) from None
    except UnicodeDecodeError as error:
        raise malformed_json(f"the body is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
        raise malformed_json(f"the body is not JSON: {reason}") from None


def candidate_id(candidate: Any) -> str:
    """The id of a candidate in either of its forms."""
    return candidate if type(candidate) is str else candidate.id


def candidate_ids(candidates: Sequence[Any]) -> list[str]:
    return [one if type(one) is str else one.id for one in candidates]  # no call for each: every request comes by here


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    # Feature names may be any text, so the attributes are numbered and the names are what the wire calls them.
    return msgspec.defstruct(
        name,
        [(f"f{position}", _TYPES[field.type] | None, None) for position, field in enumerate(fields)],
        rename={f"f{position}": field.name for position, field in enumerate(fields)},
        forbid_unknown_fields=True,
        gc=False,
    )


def check_unique(ids: Sequence[str], place: str) -> None:
    """Raise the 422 of ids that stand twice; `place` says where a position is, as in `$.candidates[{}]`."""
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    faults = []
    for position, activity in enumerate(ids):
        if (seen := first.setdefault(activity, position)) != position:
            faults.append(Fault(place.format(position), f"the id {shown(activity)} stands at {seen} already"))
    raise invalid_request(faults[:MAX_FAULTS])


def _faults_of_object(value: Any, fields: Sequence[Field], place: str) -> Iterable[Fault]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield Fault(place, f"an object is allowed, got {kind_of(value)}")
        return
    types = {field.name: _TYPES[field.type] for field in fields}
    for name, given in value.items():
        if name in types:
            yield from faults_of_value(given, types[name], f"{place}.{name}")
        else:
            yield Fault(place, f"unknown field `{shown(name)}`; no running model has such a feature")


def faults_of_value(value: Any, allowed: Any, place: str) -> Iterable[Fault]:
    try:
        # JSON text again, and not `convert`: the rules of the wire are the decoder's.
        msgspec.json.decode(json.dumps(value).encode(), type=allowed | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield _fault(error, place)


def _fault(error: Exception, place: str) -> Fault:
    message, _, inner = str(error).partition(" - at `$")
    return Fault(place + inner.rstrip("`"), message)


def kind_of(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")


def shown(name: str) -> str:
    """A caller's own word in an answer to it: not more than 64 characters of it."""
    return name if len(name) <= 64 else name[:61] + "..."


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return any(isinstance(node, dict | list) for node in level)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


class _NotFiniteError(ValueError):
    """A literal that JSON does not have: NaN, Infinity, -Infinity."""


def _not_finite(literal: str) -> NoReturn:
    raise _NotFiniteError(literal)
