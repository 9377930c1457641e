"""A real Prometheus on a free port, and an exporter whose every scrape is scripted."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from recorded import Arm

BINARY = shutil.which("prometheus")
READY_SECONDS = 30  # a bound for a busy machine
Script = Callable[[int], str]


def exposition(arm: Arm, scrape: int, code: str = "new") -> str:
    """What a service that had `arm`'s requests between any two scrapes exports at the given one."""
    lines = [
        f'frontrow_build_info{{code_version="{code}",python="3.11",lightgbm="4.7"}} 1',
        f'frontrow_model_info{{variant="control",name="m",version="1",run_id="",sha256="{"aa" * 32}",engine="x"}} 1',
        f'frontrow_golden_info{{variant="control",sha256="{"bb" * 32}"}} 1',
        "frontrow_ready 1",
        "process_start_time_seconds 1.7e+09",
    ]
    counts = arm.counts()
    for variant, part in (("control", 0.75), ("treatment", 0.25)):
        total = {name: part * scrape * count for name, count in counts.items()}
        lines += [
            f'frontrow_requests_total{{variant="{variant}",outcome="{name}"}} {count}'
            for name, count in total.items()
            if name not in ("offered", "unusable")
        ]
        lines.append(f'frontrow_requests_offered_total{{variant="{variant}"}} {total["offered"]}')
        lines.append(f'frontrow_unusable_rankings_total{{variant="{variant}"}} {total["unusable"]}')
        below = (part * scrape * arm.durations()).cumsum()
        lines += [
            f'frontrow_request_duration_seconds_bucket{{variant="{variant}",le="{edge}"}} {count}'
            for edge, count in zip([*arm.edges, "+Inf"], below, strict=True)
        ]
    return "\n".join(lines) + "\n"


class Exporter:
    """Answers `/name` with what the script of that name says of its scrape number 1, 2, ..."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        seen: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                seen[name] += 1
                body = scripts[name](seen[name]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class PrometheusServer:
    """Scrapes every job at its address and path once a second, and has begun to when it was made."""

    def __init__(self, folder: Path, jobs: Mapping[str, str]) -> None:
        assert BINARY is not None
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {"job_name": job, "metrics_path": f"/{job}", "static_configs": [{"targets": [address]}]}
                for job, address in jobs.items()
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                BINARY,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._has_scraped(len(jobs)):
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "not ready in time"
            time.sleep(0.05)
        self.began_at = time.time()

    def _has_scraped(self, jobs: int) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?query=up", timeout=1) as answer:
                return len(json.load(answer)["data"]["result"]) == jobs
        except OSError:
            return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
