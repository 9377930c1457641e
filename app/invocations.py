"""`/invocations`, as MLflow's scoring server answers it: a table of features in, predictions out."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from app.errors import Problem, bad_rows, unsupported_media
from app.experiment import Assignment
from app.given_rows import Cell, Floats, GivenRows, columns_of, of_columns, of_rows, read_json
from app.rank_route import JSON, Header, Reply
from app.schemas import shown
from app.score_route import ScoreExchange, ScoreRoute, Told
from registry import Feature

CSV: Final = b"text/csv"
FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")

# What pandas takes for missing in a cell of a CSV file, and so MLflow does.
MISSING: Final = frozenset(
    ("", "NaN", "-NaN", "nan", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None")
)
TRUTHS: Final = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}

# MLflow's names for what went wrong; every other status is a BAD_REQUEST.
ERROR_CODES: Final = {500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

Row = list[Cell]
Record = dict[str, Cell]


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A table as pandas writes it with `orient="split"`."""

    columns: list[str | int]
    data: list[Row]
    index: Any = None


class Invocation(msgspec.Struct):
    """The JSON of a request: one of the four. Other members (`params`) mean nothing to these models."""

    dataframe_split: Split | None = None
    dataframe_records: list[Record] | None = None
    instances: list[Row | Record] | None = None
    inputs: list[Row | Record] | dict[str, Row] | None = None


class Predictions(msgspec.Struct):
    """The body of an answer."""

    predictions: list[float]


class InvocationError(msgspec.Struct):
    """The body of an error answer."""

    error_code: str
    message: str


class InvocationsRoute(ScoreRoute):
    path = "/invocations"

    def exchange(self, headers: list[Header], arrived_at: float, reply: Reply) -> "InvocationsExchange":
        return InvocationsExchange(self, headers, arrived_at, reply)


class InvocationsExchange(ScoreExchange):
    """One request on its way."""

    __slots__ = ()

    def _assign(self) -> Assignment:
        """Who asks is no visitor: it gets control, or the variant that it asks for where it may."""
        service, asked = self._route.service, self.caller.asked_variant
        if asked is not None and asked in service.served and service.experiment.forcing_allowed:
            assignment = Assignment(asked, "forced")
        else:
            assignment = Assignment("control", "fallback")
        self._model = service.served[assignment.variant].model
        return assignment

    def _media_of_body(self) -> bytes:
        media = super()._media_of_body()
        if media not in (JSON, CSV):
            raise unsupported_media("the body must be application/json or text/csv; say so in Content-Type")
        return media

    def _read(self, body: bytes) -> GivenRows:
        features = self._model.bundle.features
        return read_csv(features, body) if self._media == CSV else read_table(features, body)

    def _tell(self, scores: Floats) -> Told:
        return Told(JSON, [], msgspec.json.encode(Predictions(scores.tolist())))

    def _document(self, problem: Problem) -> tuple[bytes, bytes]:
        code = ERROR_CODES.get(problem.status, "BAD_REQUEST")
        return JSON, msgspec.json.encode(InvocationError(code, problem.detail))


def read_table(features: Sequence[Feature], body: bytes) -> GivenRows:
    """The rows of a body of JSON. Raises `Problem`."""
    table = read_json(body, Invocation)
    given = {name: value for name in FORMATS if (value := getattr(table, name)) is not None}
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise bad_rows(f"the body must be an object with exactly one of {', '.join(FORMATS)}; it has {found}")
    ((name, value),) = given.items()
    if isinstance(value, Split):
        return _of_table(features, [str(column) for column in value.columns], value.data)
    if isinstance(value, dict):
        return _of_named(features, value)
    if not value:
        return of_rows(features, [])
    if len(set(map(type, value))) > 1:
        raise bad_rows(f"{name} holds both lists and objects")
    return _of_records(features, value) if isinstance(value[0], dict) else of_rows(features, value)


def read_csv(features: Sequence[Feature], body: bytes) -> GivenRows:
    """The rows of a body of CSV, whose first line names the columns. Raises `Problem`."""
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise bad_rows(f"the body is not UTF-8 (byte {error.start})") from None
    except csv.Error as error:
        raise bad_rows(f"the body is not CSV: {error}") from None
    if not lines:
        raise bad_rows("the body is empty; its first line names the columns")
    kinds = {feature.name: feature for feature in features}
    names, *rows = lines
    columns = columns_of(names, rows)
    _check_unique(names)
    return of_columns(features, {name: list(_cells(kinds.get(name), texts)) for name, texts in columns.items()})


def _cells(feature: Feature | None, texts: Iterable[str]) -> Iterable[Cell]:
    if feature is not None and feature.categories is not None:
        known = set(feature.categories)
        return (None if text in MISSING and text not in known else text for text in texts)
    return map(_number, texts)


def _number(text: str) -> Cell:
    """What a cell says; what is no number stays a text."""
    if text in MISSING:
        return None
    try:
        return float(text)
    except ValueError:
        return TRUTHS.get(text.strip(), text)


def _of_table(features: Sequence[Feature], names: Sequence[str], rows: Sequence[Row]) -> GivenRows:
    _check_unique(names)
    return of_columns(features, columns_of(names, rows))


def _of_records(features: Sequence[Feature], records: Sequence[Record]) -> GivenRows:
    """Objects with a member for each column; one that lacks some has no value there, as pandas reads them."""
    names = dict.fromkeys(name for record in records for name in record)
    return of_columns(features, {name: [record.get(name) for record in records] for name in names})


def _of_named(features: Sequence[Feature], columns: dict[str, Row]) -> GivenRows:
    if len({len(column) for column in columns.values()}) > 1:
        raise bad_rows("the columns of inputs are of different lengths")
    return of_columns(features, columns)


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise bad_rows(f"column {shown(twice)!r} stands twice")
