"""`frontrow bench` from the outside."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from scripted_server import Reply, serve

from benchmarks.cli import bench


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench, ["--candidates", "3", *arguments])


def written(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def assert_picture(path: Path, *texts: str) -> None:
    root = ET.parse(path).getroot()
    said = " ".join(root.itertext())
    assert root.tag.endswith("svg")
    for text in texts:
        assert text in said


def test_rates_are_offered_and_both_sides_counts_agree_exactly(tmp_path: Path) -> None:
    with serve(lambda number: Reply(503 if number % 4 == 1 else 200)) as server:
        result = run(
            server.url,
            "--rate",
            "100",
            "--rate",
            "200",
            "--seconds",
            "0.5",
            "--pause-seconds",
            "0",
            "--out",
            str(tmp_path),
        )
        assert result.exit_code == 0, result.output
        assert len(server.requests) == 151
    results = written(tmp_path)
    assert results["valid"] is True
    assert [each["name"] for each in results["runs"]] == ["100/s", "200/s"]
    assert sum(sum(each["sends"].values()) for each in results["runs"]) == 150
    assert all(each["server"]["agree"] for each in results["runs"])
    assert result.stdout == (tmp_path / "report.md").read_text()
    assert "| 100/s | 100 |" in result.stdout
    assert result.stdout.count("counts agree exactly") == 2
    assert_picture(tmp_path / "load.svg", "offered requests/s", "accepted p99", "refusals p99")


def test_a_server_that_counts_differently_is_told() -> None:
    def forget_the_last_three(number: int) -> Reply:
        server.uncounted = max(0, number - 17)
        return Reply()

    with serve(forget_the_last_three) as server:
        result = run(server.url, "--rate", "100", "--seconds", "0.2")
    assert "counts DIFFER" in result.stdout


def test_the_capacity_is_found_by_a_closed_loop_and_loads_are_multiples_of_it(tmp_path: Path) -> None:
    with serve() as server:
        result = run(
            server.url,
            "--load",
            "0.1",
            "--seconds",
            "0.5",
            "--pause-seconds",
            "0",
            "--connections",
            "2",
            "--out",
            str(tmp_path),
        )
    assert result.exit_code == 0, result.output
    results = written(tmp_path)
    closed, open_loop = results["runs"]
    assert closed["name"] == "closed loop, 2 connections"
    assert results["capacity"] == closed["sends"]["200"] / 0.5
    assert open_loop["schedule"][0]["rate"] == pytest.approx(0.1 * results["capacity"])
    assert_picture(tmp_path / "load.svg", "capacity C")


def test_a_surge_is_drawn_over_time_with_its_recovery(tmp_path: Path) -> None:
    with serve(lambda number: Reply(503 if 20 < number < 80 else 200)) as server:
        result = run(
            server.url,
            "--profile",
            "0.3s@0.5C,0.3s@3C,1.5s@50",
            "--capacity",
            "100",
            "--retries",
            "2",
            "--out",
            str(tmp_path),
        )
    assert result.exit_code == 0, result.output
    (surge,) = written(tmp_path)["runs"]
    assert [phase["rate"] for phase in surge["schedule"]] == [50, 300, 50]
    assert surge["windows"]["due"][:6] == [5, 5, 5, 30, 30, 30]
    assert surge["sends"]["503"] == 59
    assert [recovery["at"] for recovery in surge["recoveries"]] == [0.6]
    assert "the load falls at 0.6 s" in result.stdout
    assert_picture(tmp_path / "profile.svg", "offered", "answered in time")


def test_any_url_takes_a_body_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"rows": 1}\n{"rows": 2}\n')
    with serve() as server:
        result = run(
            f"{server.url}/predict?v=1",
            *("--body", str(tmp_path / "rows.jsonl"), "--rate", "50", "--seconds", "0.2"),
            *("--header", "Authorization: Bearer x", "--timeout-ms", "250"),
        )
    assert result.exit_code == 0, result.output
    assert {body["rows"] for body in server.bodies()} == {1, 2}
    for path, headers, _ in server.requests:
        assert (path, headers["authorization"], headers["x-request-timeout-ms"]) == ("/predict", "Bearer x", "250")
        assert headers["content-type"] == "application/json"
        assert "x-visitor-id" not in headers


def test_a_rate_given_twice_is_measured_twice(tmp_path: Path) -> None:
    with serve() as server:
        run(server.url, *("--rate", "50") * 2, "--seconds", "0.1", "--pause-seconds", "0", "--out", str(tmp_path))
    assert [each["name"] for each in written(tmp_path)["runs"]] == ["50/s", "50/s"]


def test_an_invalid_run_says_so_and_ends_with_exit_code_1(tmp_path: Path) -> None:
    with serve(lambda number: Reply(stall_seconds=0.3 if number == 1 else 0)) as server:
        result = run(server.url, "--rate", "50", "--seconds", "0.2", "--max-connections", "1", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "50/s: INVALID" in result.stdout
    assert written(tmp_path)["valid"] is False


def test_the_closed_loop_alone_tells_the_capacity(tmp_path: Path) -> None:
    with serve() as server:
        result = run(server.url, "--closed", "--connections", "3", "--seconds", "0.3", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert written(tmp_path)["capacity"] > 0
    assert not (tmp_path / "load.svg").exists()


def test_a_service_that_refuses_everything_has_no_capacity() -> None:
    with serve(lambda number: Reply(200 if number == 0 else 503)) as server:
        result = run(server.url, "--seconds", "0.2", "--connections", "2")
    assert result.exit_code == 1
    assert "not one success" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://host"], "http://host:port"),
        (["127.0.0.1:8000"], "http://host:port"),
        (["http://127.0.0.1:99999"], "Port"),
        (["http://127.0.0.1:9", "--rate", "5"], "127.0.0.1:9"),
        (["http://127.0.0.1:9", "--rate", "5", "--closed"], "take one"),
        (["http://127.0.0.1:9", "--load", "fast"], "0.5,0.8,2"),
        (["http://127.0.0.1:9", "--profile", "10@3"], "10s@0.8C"),
    ],
)
def test_what_a_person_can_put_right_is_said_in_one_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "0"],
        ["--seconds", "-1"],
        ["--candidates", "many"],
        ["--candidates", "20-10"],
        ["--capacity", "some"],
        ["--header", "nonsense"],
        ["--header", "A: b\r\nC: d"],
        ["--body", "no-such-file"],
        ["--retries", "-1"],
    ],
)
def test_an_option_out_of_bounds_is_refused_by_name(arguments: list[str]) -> None:
    result = run("http://127.0.0.1:9", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
