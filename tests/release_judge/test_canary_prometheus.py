"""A real Prometheus scrapes scripted services, and the judge reads it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from real_prometheus import Exporter, PrometheusServer, Script, exposition, free_port
from recorded import Arm

from app.metrics import Metrics
from release.canary_cli import canary
from release.evidence import Evidence
from release.prometheus import METRICS, Prometheus, PrometheusError, Series, targets
from release.rules import Rules
from release.watch import watch

ARM = Arm(requests=2_000)


def restarted(scrape: int) -> str:
    return exposition(ARM, scrape) if scrape <= 8 else exposition(ARM, scrape - 8).replace("1.7e+09", "1.8e+09")


def without_a_number(scrape: int) -> str:
    return re.sub(r"(frontrow_unusable\S+) \S+", r"\1 NaN", exposition(ARM, scrape))


SCRIPTS: dict[str, Script] = {
    "baseline": lambda scrape: exposition(ARM, scrape, "old"),
    "good": lambda scrape: exposition(ARM, scrape),
    "failing": lambda scrape: exposition(Arm(requests=2_000, bad={"error": 1_900}), scrape),
    "restarting": restarted,
    "nan": without_a_number,
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    exporter = Exporter(SCRIPTS)
    jobs = {**dict.fromkeys(SCRIPTS, exporter.address), "down": f"127.0.0.1:{free_port()}"}
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"), jobs)
    yield server
    server.close()
    exporter.close()


def judged(prometheus: PrometheusServer, out: Path, job: str, *options: str) -> Result:
    return CliRunner().invoke(
        canary,
        [
            "judge", "--prometheus", prometheus.url, "--canary", f'job="{job}"', "--baseline", 'job="baseline"',
            "--watch", "--scrape-seconds", "1", "--period-minutes", "0.1", "--out", str(out), *options,
        ],
    )  # fmt: skip


@pytest.mark.real("prometheus")
def test_a_good_canary_passes_and_its_stored_evidence_gives_the_same_verdict(
    prometheus: PrometheusServer, tmp_path: Path
) -> None:
    result = judged(
        prometheus, tmp_path / "live", "good", "--canary-code", "new", "--baseline-code", "old", "--code-only"
    )
    assert result.exit_code == 0, result.output
    assert "PASS" in result.output
    replay = ["judge", "--replay", str(tmp_path / "live" / "evidence.json"), "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(canary, replay).exit_code == 0
    for name in ("verdict.json", "evidence.json", "evidence.svg", "report.html"):
        assert (tmp_path / "live" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    verdict = json.loads((tmp_path / "live" / "verdict.json").read_text())
    assert verdict["numbers"]["share"]["observed"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.real("prometheus")
@pytest.mark.parametrize(
    ("job", "says"),
    [
        ("failing", "rankings that failed (status 500)"),
        ("down", "missed more than 3 scrapes"),
        ("nobody", "no target was ever scraped"),
    ],
)
def test_a_bad_canary_fails_for_its_reason(prometheus: PrometheusServer, tmp_path: Path, job: str, says: str) -> None:
    result = judged(prometheus, tmp_path, job)
    assert result.exit_code == 1, result.output
    assert f"G0 {'error' if job == 'failing' else 'canary'}: " in result.output
    assert says in result.output


@pytest.mark.real("prometheus")
def test_a_restart_is_seen(prometheus: PrometheusServer) -> None:
    server, rules = Prometheus(prometheus.url), Rules(scrape_seconds=1, period_seconds=20)

    def read() -> Evidence:
        return server.evidence(rules, 'job="restarting"', 'job="baseline"', prometheus.began_at)

    verdict = watch(read, sleep=time.sleep, tell=lambda _: None).verdict
    assert verdict.verdict == "FAIL"
    assert "was restarted" in verdict.reasons[0].says


@pytest.mark.real("prometheus")
def test_what_is_not_a_number_is_no_evidence(prometheus: PrometheusServer, tmp_path: Path) -> None:
    result = judged(prometheus, tmp_path, "nan", "--extensions", "0")
    assert result.exit_code == 1, result.output
    assert "G3 unusable: no evidence of unusable" in result.output


@pytest.mark.real("prometheus")
def test_what_prometheus_refuses_is_said_and_is_no_verdict(prometheus: PrometheusServer, tmp_path: Path) -> None:
    server = Prometheus(prometheus.url)
    with pytest.raises(PrometheusError, match="said 400"):
        server.evidence(Rules(), 'job=~"("', 'job="baseline"', server.now() - 5)
    same = judged(prometheus, tmp_path, "baseline")
    assert same.exit_code == 2
    assert "in both arms" in same.output


def exported() -> set[str]:
    lines = Metrics(["control"]).exposition().decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE")}


def test_every_metric_that_the_judge_reads_is_one_that_the_service_exports() -> None:
    read = {name.removesuffix("_bucket") for name in METRICS} - {"up"}
    assert read <= exported() | {name.removesuffix("_total") for name in exported()}


def test_series_of_a_scrape_are_one_scrape_of_all_variants_and_a_missing_one_is_no_zero() -> None:
    def ok(variant: str, *samples: tuple[float, float]) -> Series:
        labels = {
            "__name__": "frontrow_requests_total",
            "outcome": "ok",
            "variant": variant,
            "instance": "a",
            "job": "b",
        }
        return Series(labels, list(samples))

    (target,) = targets([ok("control", (1.0, 5.0), (2.0, 6.0)), ok("treatment", (1.0, 3.0), (3.0, float("nan")))])
    assert target.name == "b/a"
    assert [(scrape.at, scrape.counts) for scrape in target.scrapes] == [
        (1.0, {"ok": 8.0}),
        (2.0, {"ok": None}),
        (3.0, {"ok": None}),
    ]
