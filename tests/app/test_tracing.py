"""Spans reach a collector that OpenTelemetry's own variables name; without one there is nothing of it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import HOUSE
from served import running
from structlog.testing import capture_logs

from app.service import Service
from app.settings import Settings, SettingsError
from app.tracing import open_traces

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BODY = {"candidates": ["A1", "A2", "A3"]}
STAGES = ["decode", "queue", "features", "score"]


class Collector:
    """What was exported to it, as protobuf has it."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        return attributes(self.requests[0].resource_spans[0].resource)

    def request_spans(self) -> list[Any]:
        return [span for span in self.spans() if span.name == "POST /v1/rank"]

    def children(self, parent: Any) -> list[Any]:
        return [span for span in self.spans() if span.parent_span_id == parent.span_id]


def attributes(holder: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@contextmanager
def receiving(collector: Collector) -> Iterator[str]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.add(self.path)
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    with receiving(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield collector


async def rank(client: httpx.AsyncClient, body: object = None, **headers: str) -> httpx.Response:
    return await client.post("/v1/rank", json=BODY if body is None else body, headers=headers)


async def test_a_ranking_is_a_span_with_its_stages_in_the_trace_of_its_caller(
    settings: Settings, collector: Collector
) -> None:
    async with running(settings) as (_, client):
        answer = await rank(client, traceparent=TRACEPARENT, tracestate="a=b")
    (request,) = collector.request_spans()
    assert collector.paths == {"/v1/traces"}
    assert (request.trace_id.hex(), request.parent_span_id.hex(), request.trace_state) == (TRACE, PARENT, "a=b")
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/rank",
        "http.response.status_code": 200,
        "frontrow.request_id": answer.headers["x-request-id"],
        "frontrow.variant": "control",
        "frontrow.outcome": "ok",
        "frontrow.rows": 3,
    }
    children = collector.children(request)
    assert [one.name for one in children] == STAGES
    assert {one.trace_id.hex() for one in children} == {TRACE}


@pytest.mark.usefixtures("collector")
async def test_the_access_line_names_the_trace(settings: Settings) -> None:
    async with running(settings) as (_, client):
        with capture_logs() as logged:
            await rank(client, traceparent=TRACEPARENT)
    (line,) = [one for one in logged if one["event"] == "rank"]
    assert line["trace_id"] == TRACE


async def test_the_stages_are_as_long_as_the_answer_says_and_within_their_request(
    settings: Settings, collector: Collector
) -> None:
    async with running(settings) as (_, client):
        answer = await rank(client)
    (request,) = collector.request_spans()
    said = {
        name: float(milliseconds)
        for name, milliseconds in (part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    }
    for span in collector.children(request):
        length = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert length == pytest.approx(said[span.name], abs=0.002)
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano + 2_000


async def test_a_request_that_is_refused_is_a_span_too_and_only_a_defect_is_an_error(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings) as (service, client):
        await rank(client, {"candidates": 1})
        monkeypatch.setattr(service.rankers["control"], "work", None)
        await rank(client)
    refused, defect = collector.request_spans()
    assert attributes(refused)["frontrow.outcome"] == "invalid"
    assert [one.name for one in collector.children(refused)] == ["decode"]
    assert (refused.status.code, defect.status.code) == (0, 2)


async def test_a_caller_who_does_not_sample_gets_no_spans_and_a_garbled_parent_is_none(
    settings: Settings, collector: Collector
) -> None:
    async with running(settings) as (_, client):
        await rank(client, traceparent=f"00-{TRACE}-{PARENT}-00")
        await rank(client, traceparent="garbled")
    (request,) = collector.request_spans()
    assert request.parent_span_id == b""
    assert request.trace_id.hex() != TRACE


async def test_the_service_says_who_it_is_unless_it_is_told_who(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings) as (_, client):
        await rank(client)
    assert collector.resource()["service.name"] == "frontrow"
    assert collector.resource()["service.version"] == "test"
    collector.requests.clear()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "rankings")
    async with running(settings) as (_, client):
        await rank(client)
    assert collector.resource()["service.name"] == "rankings"


async def test_rankings_are_answered_while_nobody_collects(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(Collector()) as gone:
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gone)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with running(settings) as (_, client):
        assert (await rank(client)).status_code == 200


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_opened(environment: dict[str, str]) -> None:
    assert open_traces("test", environment) is None


def test_another_protocol_is_a_variable_at_fault() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf is allowed, got 'grpc'"):
        open_traces("test", environment)


async def test_a_service_without_a_collector_makes_no_traces(service: Service) -> None:
    assert service.traces is None


def test_what_sends_spans_is_not_imported_without_a_collector() -> None:
    program = (
        "import sys, app.launch, app.routes, app.tracing; app.tracing.open_traces('test', {}); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
