import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from drift_worlds import rows, trained_profile
from logged_worlds import NOON, write_log, write_model

from features.events import visitor_key
from monitoring.cli import drift, experiment, replay
from monitoring.drift import WINDOWS, Drift
from monitoring.exposures import EXPOSURES, FEEDBACK, Exposure, Feedback
from monitoring.journal import Journal
from registry import Model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    folder = tmp_path_factory.mktemp("models")
    return write_model(folder / "seven"), write_model(folder / "eight", seed=1, trees=3)


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])  # type: ignore[arg-type]


@contextmanager
def answering(path: str, content: bytes) -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == path else 404)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_live_service_is_reported_with_its_alarms_and_pictures(tmp_path: Path) -> None:
    watched = Drift(trained_profile(), "activity-ranker/7", window_seconds=60, now=0)
    for window in range(WINDOWS):
        changed = rows(600, window)
        changed[:, 0] *= 100
        watched.count(changed)
        assert watched.tick(60.0 * (window + 1))
    out = tmp_path / "drift.html"
    with answering("/v1/drift", msgspec.json.encode({"control": watched.reading()})) as url:
        result = run(drift, "report", "--url", url, "--out", out)
    assert result.exit_code == 0, result.output
    assert "control (activity-ranker/7): price (page); window of 600 rows" in result.output
    page = out.read_text()
    assert page.count("<svg") == len(trained_profile().distributions)
    assert "<script" not in page


def test_a_service_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    result = run(drift, "report", "--url", "http://127.0.0.1:9", "--out", tmp_path / "drift.html")
    assert result.exit_code == 1
    assert "Connection refused" in result.output
    assert "Traceback" not in result.output


def test_a_log_is_reported_for_the_model_that_answered(models: tuple[Model, Model], tmp_path: Path) -> None:
    write_log(tmp_path / "log", models[0], 700, every_ms=10_000)
    out = tmp_path / "drift.html"
    folder = models[0].bundle.folder
    result = run(drift, "report", "--log", tmp_path / "log", "--model", folder, "--window-seconds", 3_000, "--out", out)
    assert result.exit_code == 0, result.output
    assert "log (activity-ranker/7)" in result.output
    assert "nothing drifts" in result.output  # three windows are an alarm, and this log has one


def test_drift_of_nothing_is_a_usage_error(tmp_path: Path) -> None:
    assert run(drift, "report").exit_code == 2
    assert run(drift, "report", "--url", "http://127.0.0.1:9", "--log", tmp_path).exit_code == 2


def test_a_replay_on_the_same_model_finds_nothing(models: tuple[Model, Model], tmp_path: Path) -> None:
    write_log(tmp_path, models[0], 20)
    result = run(replay, tmp_path, "--model", models[0].bundle.folder)
    assert result.exit_code == 0, result.output
    assert "different: 0 rankings, largest score difference 0" in result.output


def test_a_replay_on_another_model_shows_how_orders_change(models: tuple[Model, Model], tmp_path: Path) -> None:
    write_log(tmp_path, models[0], 20)
    result = run(replay, tmp_path, "--model", models[1].bundle.folder)
    assert result.exit_code == 0, result.output
    assert "different: 20 rankings" in result.output


def test_a_log_that_the_same_model_does_not_give_again_is_broken(models: tuple[Model, Model], tmp_path: Path) -> None:
    write_log(tmp_path, models[0], 1)
    [path] = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"scores":[', '"scores":[9').replace('"scores":[9-', '"scores":[-9'))
    result = run(replay, tmp_path, "--model", models[0].bundle.folder)
    assert result.exit_code == 1, result.output
    assert "BROKEN:    1 rankings" in result.output


def test_an_experiment_is_reported_from_its_logs(tmp_path: Path) -> None:
    exposures, feedback = (Journal(tmp_path, kind, max_bytes=2**24) for kind in (EXPOSURES, FEEDBACK))
    for number in range(2_000):
        unit, variant = visitor_key(f"{number}").hex(), ("control", "treatment")[number % 2]
        exposures.offer(Exposure(NOON, "ranker", unit, variant, "hash", "m/1"))
        if number % 10 == 1 or number % 40 == 0:
            feedback.offer(Feedback(NOON + 5, unit, "A1", "booking"))
    for journal in (exposures, feedback):
        journal.start()
        journal.close()
    out = tmp_path / "experiment.html"
    result = run(experiment, "report", tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "treatment is better by +15.00 percentage points" in result.output
    assert (
        "1,000 in control, 1,000 in treatment (50.00%, intended 50.00%); sample ratio mismatch: none" in result.output
    )
    assert "treatment is better" in out.read_text()


def test_an_experiment_without_exposures_is_said_in_a_line(tmp_path: Path) -> None:
    result = run(experiment, "report", tmp_path, "--out", tmp_path / "experiment.html")
    assert result.exit_code == 1
    assert "0 in control and 0 in treatment" in result.output
