"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors.

It is what Triton, KServe and their clients speak. One input, whole rows of the model, becomes one output, their scores.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import Problem, bad_rows, unsupported_media
from app.experiment import VARIANTS, Assignment, Variant
from app.given_rows import Floats, GivenRows, read_json
from app.models import Served
from app.rank_route import JSON, Header, Reply
from app.schemas import SAFE_INTEGER, shown
from app.score_route import ScoreExchange, ScoreRoute, Told
from registry import Model

Kind = np.dtype[np.float64] | np.dtype[np.float32]

INPUT: Final = "rows"
OUTPUT: Final = "scores"
TYPES: Final[dict[str, Kind]] = {"FP64": np.dtype("<f8"), "FP32": np.dtype("<f4")}
OCTETS: Final = b"application/octet-stream"
HEADER_LENGTH: Final = b"inference-header-content-length"
NOT_OFFERED: Final = ("shared_memory_region", "classification")

_PATH = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_LENGTH = re.compile(rb"[0-9]{1,9}")

Parameters = dict[str, Any] | None
Size = Annotated[int, msgspec.Meta(le=SAFE_INTEGER)]


class Tensor(msgspec.Struct):
    """An input, as JSON has it."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: Parameters = None
    data: list[float | list[float | None] | None] | None = None


class AskedOutput(msgspec.Struct):
    """An output, as JSON asks for it."""

    name: str
    parameters: Parameters = None


class InferRequest(msgspec.Struct):
    """The JSON of a request. Members and parameters that are not known here are passed over."""

    inputs: list[Tensor]
    outputs: list[AskedOutput] | None = None
    id: str | None = None
    parameters: Parameters = None


class GivenOutput(msgspec.Struct, omit_defaults=True):
    """The scores; `data` unless they follow the JSON in binary."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float] | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    outputs: list[GivenOutput]
    id: str | None = None


class InferError(msgspec.Struct):
    """The body of every error answer of this protocol."""

    error: str


def find_variant(served: Mapping[Variant, Served], name: str, version: str | None = None) -> Variant | None:
    """Who serves a model of that name, which may be the variant's own; control where both do."""
    for variant in VARIANTS:
        if variant in served:
            bundle = served[variant].model.bundle
            if name in (variant, bundle.name) and version in (None, bundle.version):
                return variant
    return None


class InferRoute(ScoreRoute):
    path = "/v2/models/{model_name}/infer"

    def door(self, path: bytes) -> "ModelDoor | None":
        """What takes requests that are posted to this path; None where it names no model that is served."""
        if (found := _PATH.fullmatch(path)) is None:
            return None
        try:
            name, version = [None if one is None else unquote_to_bytes(one).decode() for one in found.groups()]
        except UnicodeDecodeError:
            return None
        assert name is not None  # the path has one
        variant = find_variant(self.service.served, name, version)
        return None if variant is None else ModelDoor(self, name, variant, self.service.served[variant].model)


class ModelDoor(NamedTuple):
    """A model under the name that a path gave it."""

    route: InferRoute
    name: str
    variant: Variant
    model: Model

    def exchange(self, headers: list[Header], arrived_at: float, reply: Reply) -> "InferExchange":
        return InferExchange(self, headers, arrived_at, reply)


class InferExchange(ScoreExchange):
    """One request on its way."""

    __slots__ = ("_binary", "_door", "_id")

    def __init__(self, door: ModelDoor, headers: list[Header], arrived_at: float, reply: Reply) -> None:
        self._door = door
        self._id: str | None = None
        self._binary = False
        super().__init__(door.route, headers, arrived_at, reply)

    def _assign(self) -> Assignment:
        self._model = self._door.model
        return Assignment(self._door.variant, "forced")

    def _media_of_body(self) -> bytes:
        media = super()._media_of_body()
        if media not in (b"", JSON, OCTETS):
            raise unsupported_media("the body must be application/json or, with binary data, application/octet-stream")
        return media

    def _is_binary(self) -> bool:
        return any(name == HEADER_LENGTH for name, _ in self.headers)

    def _read(self, body: bytes) -> GivenRows:
        length = self._json_length(len(body))
        request = read_json(body[:length], InferRequest)
        self._id = request.id
        self._binary = _wants_binary(request)
        if len(request.inputs) != 1:
            raise bad_rows(f"{len(request.inputs)} inputs were sent and the model has 1, {INPUT!r}")
        return GivenRows(self._matrix(request.inputs[0], memoryview(body)[length:]), {})

    def _json_length(self, size: int) -> int:
        """How many bytes of the body are JSON; the others are binary data."""
        given = [value for name, value in self.headers if name == HEADER_LENGTH]
        if not given:
            return size
        if len(given) > 1 or not _LENGTH.fullmatch(given[0]) or int(given[0]) > size:
            raise bad_rows(f"Inference-Header-Content-Length must be a number of bytes up to the body's {size}")
        return int(given[0])

    def _matrix(self, tensor: Tensor, binary: memoryview) -> Floats:
        if tensor.name != INPUT:
            raise bad_rows(f"there is no input {shown(tensor.name)!r}; the model has {INPUT!r}")
        _refuse_not_offered(tensor.parameters)
        if (kind := TYPES.get(tensor.datatype)) is None:
            raise bad_rows(f"input {INPUT!r} is {' or '.join(TYPES)}, and {shown(tensor.datatype)!r} was sent")
        rows = self._count(tensor.shape)
        shape = rows, len(self._model.bundle.features)
        if "binary_data_size" in (tensor.parameters or {}):
            values = _of_binary(tensor, binary, kind, shape)
        elif binary:
            raise bad_rows(f"{len(binary)} bytes follow the JSON, and the input has no binary_data_size")
        else:
            values = _of_json(tensor, kind, shape)
        return values.astype(np.float64)

    def _count(self, shape: list[int]) -> int:
        width = len(self._model.bundle.features)
        if len(shape) != 2 or shape[1] != width or shape[0] < 0:
            said = shown(", ".join(map(str, shape[:8])))
            raise bad_rows(f"input {INPUT!r} has the shape [rows, {width}], and [{said}] was sent")
        self._check_count(shape[0])
        return shape[0]

    def _tell(self, scores: Floats) -> Told:
        output = GivenOutput(OUTPUT, "FP64", [len(scores)])
        answer = InferResponse(self._door.name, self._model.bundle.version, [output], self._id)
        if not self._binary:
            output.data = scores.tolist()
            return Told(JSON, [], msgspec.json.encode(answer))
        content = scores.astype("<f8").tobytes()
        output.parameters = {"binary_data_size": len(content)}
        head = msgspec.json.encode(answer)
        return Told(OCTETS, [(HEADER_LENGTH, b"%d" % len(head))], head + content)

    def _document(self, problem: Problem) -> tuple[bytes, bytes]:
        return JSON, error_document(problem.detail)


def error_document(detail: str) -> bytes:
    return msgspec.json.encode(InferError(detail))


def _of_binary(tensor: Tensor, binary: memoryview, kind: Kind, shape: tuple[int, int]) -> NDArray[Any]:
    size, wanted = (tensor.parameters or {})["binary_data_size"], kind.itemsize * shape[0] * shape[1]
    if tensor.data is not None:
        raise bad_rows("the input has both data and binary_data_size")
    if type(size) is not int or size != wanted:
        told = size if type(size) is int and abs(size) < 10**18 else "no such number"
        raise bad_rows(f"{shape[0]} rows take {wanted} bytes, and binary_data_size is {told}")
    if len(binary) != wanted:
        raise bad_rows(f"{shape[0]} rows take {wanted} bytes, and {len(binary)} bytes follow the JSON")
    return np.frombuffer(binary, kind).reshape(shape)


def _of_json(tensor: Tensor, kind: Kind, shape: tuple[int, int]) -> NDArray[Any]:
    if tensor.data is None:
        raise bad_rows("the input has neither data nor binary_data_size")
    try:
        values = np.array(tensor.data, np.float64)
    except ValueError:
        _refuse_data("rows of different lengths", shape)
    if values.ndim == 1 and values.size != shape[0] * shape[1]:
        _refuse_data(f"{values.size} numbers", shape)
    if values.ndim == 2 and values.shape != shape:
        _refuse_data(f"{values.shape[0]} rows of {values.shape[1]}", shape)
    with np.errstate(over="ignore"):  # what is too large for the type is infinite in it
        return values.reshape(shape).astype(kind)


def _refuse_data(found: str, shape: tuple[int, int]) -> NoReturn:
    raise bad_rows(f"data must be {shape[0]} rows of {shape[1]}, or as many numbers in one list; it has {found}")


def _wants_binary(request: InferRequest) -> bool:
    """Whether the scores are to follow the JSON. Raises the 400 of an output that is not there."""
    wants = _flag(request.parameters, "binary_data_output", otherwise=False)
    for output in request.outputs or ():
        if output.name != OUTPUT:
            raise bad_rows(f"there is no output {shown(output.name)!r}; the model has {OUTPUT!r}")
        _refuse_not_offered(output.parameters)
        wants = _flag(output.parameters, "binary_data", otherwise=wants)
    return wants


def _flag(parameters: Parameters, name: str, *, otherwise: bool) -> bool:
    found = (parameters or {}).get(name, otherwise)
    if not isinstance(found, bool):
        raise bad_rows(f"{name} is true or false")
    return found


def _refuse_not_offered(parameters: Parameters) -> None:
    """Raise the 400 of what would change an answer, and cannot be done here."""
    for name in NOT_OFFERED:
        if name in (parameters or {}):
            raise bad_rows(f"{name} is not offered")
