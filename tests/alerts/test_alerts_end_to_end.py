"""A real Prometheus with the real rules pages for a service that is really broken.

The rules are those of the source with every duration divided by `SHORTER`, since nobody waits an hour for a test: what
is compared, and with what, is the same.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "app"))

from app_models import write_models
from processes import Process, serving

from k8s.components.monitoring.source.alerts import rules

SHORTER = 15
BOUND_SECONDS = 60
BODY = {"candidates": [f"A{n % 50}-{n}" for n in range(5_000)]}


class Watch:
    """A Prometheus that scrapes one address every second and evaluates our rules."""

    def __init__(self, folder: Path, address: str) -> None:
        binary = shutil.which("prometheus")
        assert binary is not None
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules(SHORTER)))
        scrape = {"job_name": "frontrow", "static_configs": [{"targets": [address]}]}
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self.url = f"http://127.0.0.1:{free_port()}"
        words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [binary, *words, f"--web.listen-address={self.url.removeprefix('http://')}"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, query: str) -> list[dict[str, str]]:
        """Labels of the series that a query gives; none while Prometheus does not answer."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                return [one["metric"] for one in json.load(answer)["data"]["result"]]
        except OSError:
            return []

    def paging(self) -> set[str]:
        return {one["alertname"] for one in self.ask('ALERTS{alertstate="firing", severity="page"}')}

    def wait_until(self, is_true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + BOUND_SECONDS
        while not is_true():
            assert time.monotonic() < deadline, f"not within {BOUND_SECONDS} s: {what}"
            time.sleep(0.1)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    return folder


@pytest.fixture
def service(bundles: Path) -> Iterator[Process]:
    """One that has to answer within 20 ms, so that less than all of a machine's power overloads it."""
    with serving(bundles, request_timeout_ms=20, access_log_share=0, log_level="error") as process:
        yield process


@pytest.fixture
def watch(service: Process, tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path, service.url.removeprefix("http://"))
    yield watch
    watch.close()


def evaluated(watch: Watch) -> bool:
    """Whether the rules had figures of this service to look at."""
    return bool(watch.ask('up{job="frontrow"} == 1') and watch.ask("frontrow:slo_events:rate2m"))


@pytest.mark.real("prometheus")
def test_a_service_that_is_killed_pages(service: Process, watch: Watch) -> None:
    watch.wait_until(lambda: evaluated(watch), "figures of the service")
    assert watch.paging() == set()

    service.kill()

    watch.wait_until(lambda: "FrontrowDown" in watch.paging(), "a page")
    assert watch.paging() == {"FrontrowDown"}


@pytest.mark.real("prometheus")
async def test_a_service_that_is_overloaded_pages(service: Process, watch: Watch) -> None:
    await asyncio.to_thread(watch.wait_until, lambda: evaluated(watch), "figures of the service")
    assert watch.paging() == set()

    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        crowd = [asyncio.create_task(crowding(client, service.url)) for _ in range(16)]
        await asyncio.to_thread(
            watch.wait_until, lambda: "FrontrowAvailabilityFastBurn" in watch.paging(), "a page for refused rankings"
        )
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
    assert "FrontrowDown" not in watch.paging()


async def crowding(client: httpx.AsyncClient, url: str) -> None:
    while True:
        await client.post(f"{url}/v1/rank", json=BODY)
