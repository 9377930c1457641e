"""The process: what it says, when it refuses to start, and how it ends."""

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from processes import START_SECONDS, Process, serving
from prometheus_client.parser import text_string_to_metric_families

BODY = {"candidates": ["A1", "A2"]}


def run(arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str, float]:
    """Exit code, output and seconds of a service that is not expected to start."""
    started = time.monotonic()
    process = Process(arguments, environment, folder)
    code = process.wait()
    return code, process.output, time.monotonic() - started


def models(bundles: Path) -> dict[str, str]:
    return {
        "FRONTROW_CONTROL_MODEL": str(bundles / "control"),
        "FRONTROW_TREATMENT_MODEL": str(bundles / "treatment"),
        "FRONTROW_PORT": "0",
    }


def test_it_says_what_to_try_and_that_works_as_it_stands(bundles: Path) -> None:
    with serving(bundles) as process:
        assert "curl -s" in process.output
        body = process.output.split("-d '")[1].split("'\n")[0]
        answer = httpx.post(f"{process.url}/v1/rank", json=json.loads(body)).json()
        assert len(answer["ranking"]) == 3
        assert httpx.get(f"{process.url}/docs").status_code == 200
        assert httpx.get(f"{process.url}/", follow_redirects=True).status_code == 200


def test_sigterm_ends_it_with_exit_code_zero(bundles: Path) -> None:
    with serving(bundles) as process:
        assert httpx.post(f"{process.url}/v1/rank", json=BODY).status_code == 200
        process.terminate()
        assert process.wait() == 0, process.output


def test_every_line_of_the_log_is_a_json_object(bundles: Path) -> None:
    with serving(bundles) as process:
        httpx.post(f"{process.url}/v1/rank", json=BODY, headers={"X-Request-Id": "r-1"})
        httpx.post(f"{process.url}/v1/rank", json={}, headers={"X-Request-Id": "r-2"})
        process.terminate()
        process.wait()
        lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    access = {line["request_id"]: line for line in lines if line["event"] == "rank"}
    assert access["r-1"]["outcome"] == "ok"
    assert access["r-1"]["model"] == "activity-ranker/1"
    assert access["r-1"]["rows"] == 2
    assert access["r-2"]["outcome"] == "invalid"
    assert access["r-2"]["status"] == 422


def test_several_workers_are_counted_as_one_service(bundles: Path) -> None:
    with serving(bundles, "--workers", "2") as process:
        for n in range(60):  # a connection each, so that both workers get some
            headers = {"X-Visitor-Id": f"v{n}", "Connection": "close"}
            assert httpx.post(f"{process.url}/v1/rank", json=BODY, headers=headers).status_code == 200
        families = text_string_to_metric_families(httpx.get(f"{process.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        outcomes = {
            outcome: sum(
                s.value for s in samples if s.name == "frontrow_requests_total" and s.labels["outcome"] == outcome
            )
            for outcome in ("ok", "invalid", "error", "shed")
        }
        offered = sum(s.value for s in samples if s.name == "frontrow_requests_offered_total")
        info = [s for s in samples if s.name == "frontrow_model_info"]
        assert outcomes == {"ok": 60, "invalid": 0, "error": 0, "shed": 0}
        assert offered == 60
        assert {(s.labels["variant"], s.value) for s in info} == {("control", 1.0), ("treatment", 1.0)}
        process.terminate()
        assert process.wait() == 0, process.output


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").exists(), reason="what a process maps is read from /proc")
def test_workers_hold_tables_and_activities_in_common_and_their_parent_holds_neither(bundles: Path) -> None:
    with serving(bundles, "--workers", "2") as process:
        maps = {pid: mapped(pid) for pid in children(process.pid) if "llvmlite" in mapped(pid)}
        assert len(maps) == 2
        for name in (r"\S+/control/model\.tables", r"\S+/treatment/model\.tables", r"\S+\.npy"):
            files = [set(re.findall(name, text)) for text in maps.values()]
            assert files[0] == files[1] != set(), name
        assert not {"llvmlite", "pyarrow", "numpy"} & set(mapped(process.pid).replace("/", " ").split())
        folder = Path(next(iter(re.findall(r"\S+\.npy", next(iter(maps.values())))))).parent
        process.terminate()
        assert process.wait() == 0, process.output
        assert not folder.exists()


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
def test_a_worker_that_was_killed_is_replaced_and_says_no_more_that_it_is_ready(bundles: Path) -> None:
    def value(name: str) -> float:
        text = httpx.get(f"{process.url}/metrics", headers={"Connection": "close"}).text
        return max(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    with serving(bundles, "--workers", "2") as process:
        assert value("frontrow_ready") == 1
        assert value("frontrow_queue_rows") == 0
        before = [pid for pid in children(process.pid) if "llvmlite" in mapped(pid)]
        (gauges,) = {Path(file) for file in re.findall(rf"\S+/gauge_livemin_{before[0]}\.db", mapped(before[0]))}
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: not gauges.exists(), "the gauges of a killed worker are still there")
        wait_for(lambda: len(list(gauges.parent.glob("gauge_livemin_*.db"))) == 2, "nobody took its place")
        wait_for(lambda: value("frontrow_ready") == 1, "its successor is not ready")


def test_workers_end_when_their_parent_was_killed(bundles: Path) -> None:
    with serving(bundles, "--workers", "2") as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # and with it everything that could still write to its output
    assert process.output.count("this worker ends") == 2


@pytest.mark.parametrize(
    ("name", "value"), [("FRONTROW_TREATMENT_SHARE", "2"), ("FRONTROW_WORKERZ", "2"), ("FRONTROW_PORT", "x")]
)
def test_a_wrong_setting_is_exit_code_2_and_names_the_variable(tmp_path: Path, name: str, value: str) -> None:
    code, output, _ = run([], {name: value}, tmp_path)
    assert code == 2
    assert name in output
    assert "Traceback" not in output


def _flip_digest(folder: Path) -> None:
    path = folder / "bundle.json"
    facts = json.loads(path.read_bytes())
    digest = facts["files"]["model.lgb"]
    facts["files"]["model.lgb"] = ("0" if digest[0] != "0" else "1") + digest[1:]
    path.write_text(json.dumps(facts))


def _reorder_features(folder: Path) -> None:
    path = folder / "bundle.json"
    facts = json.loads(path.read_bytes())
    facts["features"] = facts["features"][::-1]
    path.write_text(json.dumps(facts))


def _change_golden_score(folder: Path) -> None:
    import hashlib

    golden = json.loads((folder / "golden.json").read_bytes())
    golden["scores"][3] += 1e-9
    (folder / "golden.json").write_text(json.dumps(golden))
    facts = json.loads((folder / "bundle.json").read_bytes())
    facts["files"]["golden.json"] = hashlib.sha256((folder / "golden.json").read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [_flip_digest, _reorder_features, _change_golden_score, _remove])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bundle_that_does_not_hold_is_exit_code_3_before_the_port_opens(
    bundles: Path, tmp_path: Path, damage: object, workers: str
) -> None:
    shutil.copytree(bundles / "control", tmp_path / "control")
    shutil.copytree(bundles / "treatment", tmp_path / "treatment")
    damage(tmp_path / "control")  # type: ignore[operator]
    code, output, seconds = run(["--workers", workers], models(tmp_path), tmp_path)
    assert code == 3, output
    assert "Frontrow is ready" not in output
    assert "Traceback" not in output
    assert seconds < START_REFUSAL_SECONDS


START_REFUSAL_SECONDS = 10


def test_models_that_contradict_each_other_are_exit_code_3(bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles / "control", tmp_path / "control")
    shutil.copytree(bundles / "treatment", tmp_path / "treatment")
    path = tmp_path / "treatment" / "bundle.json"
    facts = json.loads(path.read_bytes())
    next(f for f in facts["features"] if f["name"] == "price")["role"] = "context"
    path.write_text(json.dumps(facts))
    code, output, _ = run([], models(tmp_path), tmp_path)
    assert code == 3
    assert "'price'" in output


def test_no_mlflow_and_no_bundle_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, not listening: a port that refuses
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        code, output, _ = run(["--port", "0"], {"FRONTROW_TRACKING_URI": uri}, tmp_path)
    assert code == 3
    lines = [line for line in output.splitlines() if line]
    assert len(lines) == 1, output
    assert uri in lines[0]
    assert "FRONTROW_CONTROL_MODEL" in lines[0]


def test_a_port_that_is_taken_is_an_error_that_names_it(bundles: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output, _ = run(["--port", str(port)], models(bundles) | {"FRONTROW_PORT": str(port)}, bundles)
    assert code != 0
    assert str(port) in output


def test_serving_from_bundles_imports_neither_mlflow_nor_pandas(bundles: Path) -> None:
    with serving(bundles) as process:
        assert httpx.post(f"{process.url}/v1/rank", json=BODY).status_code == 200
        mapped = Path(f"/proc/{process.pid}/maps").read_text() if Path("/proc").exists() else ""
        assert not {"mlflow", "pandas", "sklearn"} & set(mapped.replace("/", " ").split())
