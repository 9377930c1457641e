"""Spans of rankings for OpenTelemetry, where its own variables say that somebody collects them; else nothing at all.

A ranking's spans are made when it has ended, from the times that it took anyhow: nobody waits for a span.
"""

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from app.settings import SettingsError

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
SPAN: Final = "POST /v1/rank"
PARENT: Final = (b"traceparent", b"tracestate")
DEFECT: Final = 500


class Ended(NamedTuple):
    """A ranking that is over. Times are points of `time.perf_counter`, `stages` have a name and seconds each."""

    headers: Sequence[tuple[bytes, bytes]]
    began_at: float
    ended_at: float
    stages: Sequence[tuple[str, float]]
    attributes: Mapping[str, str | int]


def open_traces(code_version: str, environment: Mapping[str, str] = os.environ) -> "Traces | None":
    """What sends spans to the collector that the environment names; None where it names none.

    Raises `SettingsError` where the packages of the extra `otel` are not installed, or it asks for another protocol.
    """
    endpoint = next((name for name in ENDPOINTS if environment.get(name)), None)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if endpoint is None or disabled or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    for name in PROTOCOLS:
        if environment.get(name, PROTOCOL) != PROTOCOL:
            raise SettingsError(f"{name}: {PROTOCOL} is allowed, got {environment[name]!r}")
    if importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise SettingsError(f"{endpoint} is set, but OpenTelemetry is not installed: pip install 'frontrow[otel]'")
    return Traces(code_version, environment)


class Traces:
    """Makes spans and hands them to a thread that sends them; what cannot be sent is dropped.

    Everything else (sampling, headers, timeouts, sizes of batches) is as OpenTelemetry's own variables say.
    """

    def __init__(self, code_version: str, environment: Mapping[str, str]) -> None:
        # Imported here: who sends no spans does not pay for what sends them.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation import set_span_in_context  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        named = "OTEL_SERVICE_NAME" in environment or "service.name" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        facts = {"service.version": code_version} | ({} if named else {"service.name": "frontrow"})
        self._provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Any = self._provider.get_tracer("frontrow", code_version)
        self._extract = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._server, self._error = SpanKind.SERVER, StatusCode.ERROR

    def ended(self, one: Ended) -> str:
        """Make the spans of a ranking; the id of its trace, in hex."""
        since_1970 = time.time() - time.perf_counter()
        parent = self._extract(
            {name.decode(): value.decode("latin-1") for name, value in one.headers if name in PARENT}
        )
        span = self._tracer.start_span(
            SPAN, parent, self._server, one.attributes, start_time=_ns(since_1970 + one.began_at)
        )
        if span.is_recording():
            self._stages(self._within(span), since_1970 + one.began_at, one.stages)
            if one.attributes.get("http.response.status_code", 0) == DEFECT:
                span.set_status(self._error)
        span.end(_ns(since_1970 + one.ended_at))
        return f"{span.get_span_context().trace_id:032x}"

    def _stages(self, context: Any, at: float, stages: Sequence[tuple[str, float]]) -> None:
        for name, seconds in stages:
            span = self._tracer.start_span(name, context, start_time=_ns(at))
            at += seconds
            span.end(_ns(at))

    def close(self) -> None:
        """Send what waits to be sent."""
        self._provider.shutdown()


def _ns(seconds: float) -> int:
    return int(1e9 * seconds)
