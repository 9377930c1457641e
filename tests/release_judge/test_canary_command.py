"""`frontrow canary judge`: what it takes, what it writes, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from recorded import Arm, evidence

from release.canary_cli import canary
from release.evidence import Evidence
from release.judge import Trial, judge
from release.prometheus import Prometheus, PrometheusError, SelectorError, checked
from release.rules import Rules
from release.watch import watch


def run(*arguments: str) -> Result:
    return CliRunner().invoke(canary, ["judge", *arguments])


@pytest.mark.parametrize(
    ("bad", "looks", "code", "word"),
    [({}, 40, 0, "PASS"), ({"error": 30.0}, 40, 1, "FAIL"), ({}, 39, 2, "INCONCLUSIVE")],
)
def test_the_exit_code_is_the_verdict_and_the_folder_says_why(
    tmp_path: Path, bad: dict[str, float], looks: int, code: int, word: str
) -> None:
    found = evidence(Rules(stage=5), canary=[Arm(bad=bad)], looks=looks)
    (tmp_path / "evidence.json").write_bytes(found.encode())
    result = run("--replay", str(tmp_path / "evidence.json"), "--out", str(tmp_path / "out"))
    assert result.exit_code == code, result.output
    assert result.output.startswith(f"{word} after ")
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["evidence_sha256"]) == (word, found.sha256())
    assert verdict["rules"]["stage"] == 5
    page = (tmp_path / "out" / "report.html").read_text()
    for said in (f"<h1>Canary: {word}</h1>", "<svg", "stage 5 %", found.sha256(), verdict["reasons"][0]["subject"]):
        assert said in page
    assert "<script" not in page
    assert (tmp_path / "out" / "evidence.json").read_bytes() == found.encode()


def test_a_picture_is_drawn_of_any_state(tmp_path: Path) -> None:
    states = [
        evidence(Rules(), canary=[], looks=6),
        evidence(Rules(hotfix=True, period_seconds=300), canary=[Arm(slower=900)], looks=20),
        evidence(Rules(), canary=[Arm(requests=0)], baseline=[Arm(requests=0, offset=9)], looks=50),
    ]
    for number, found in enumerate(states):
        stored = tmp_path / f"{number}.json"
        stored.write_bytes(found.encode())
        assert run("--replay", str(stored), "--out", str(tmp_path / str(number))).exit_code in (1, 2)
        assert "</svg>" in (tmp_path / str(number) / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--prometheus, --canary and --baseline are needed"),
        (["--prometheus", "http://127.0.0.1:9"], "--prometheus, --canary and --baseline are needed"),
        (["--start", "yesterday"], "write 2026-11-23T12:00:00Z"),
        (["--start", "2026-11-23T12:00:00"], "write 2026-11-23T12:00:00Z"),
        (["--header", "token"], "write --header 'Name: value'"),
        (["--canary", 'job="x"} or up{'], "selects no arm"),
        (["--prometheus", "file:///etc/passwd"], "no URL of a Prometheus"),
        (["--p99-ratio", "0.5"], "at least 0 s and 1"),
        (["--period-minutes", "0.3"], "multiple of 30 s, which 18 s is not"),
        ([], "did not answer"),
    ],
)
def test_what_cannot_be_judged_is_no_verdict(tmp_path: Path, arguments: list[str], says: str) -> None:
    usual = {
        "--prometheus": "http://127.0.0.1:9",
        "--canary": 'job="a"',
        "--baseline": 'job="b"',
        "--start": "1700000000",
    }
    if says.startswith("--prometheus"):
        usual = {}
    usual |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    result = run("--out", str(tmp_path), *(word for pair in usual.items() for word in pair))
    assert result.exit_code == 2
    assert says in result.output.replace("\n", " ")


def test_a_replay_is_judged_by_its_own_rules(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes(evidence(Rules()).encode())
    result = run("--replay", str(tmp_path / "evidence.json"), "--out", str(tmp_path), "--hotfix", "--p99-ratio", "2")
    assert result.exit_code == 2
    assert "leave out hotfix, p99_ratio" in result.output
    (tmp_path / "evidence.json").write_text("{}")
    broken = run("--replay", str(tmp_path / "evidence.json"), "--out", str(tmp_path))
    assert broken.exit_code == 2
    assert "missing required field" in broken.output


@pytest.mark.parametrize(
    "selector", ['job="canary"', "job='canary', stage!=\"5\"", '{job=~"can.*",}', r'pod="a\"}b"', "a!~'}'"]
)
def test_label_matchers_select_an_arm(selector: str) -> None:
    assert checked(selector) in selector


@pytest.mark.parametrize("selector", ["", "up", "{}", 'job="a"} or {job="b"', 'job="a"[5m]', 'job="a', 'job="a" or up'])
def test_nothing_else_than_label_matchers_does(selector: str) -> None:
    with pytest.raises(SelectorError, match="selects no arm"):
        checked(selector)


class Recording:
    """A Prometheus that is read again and again, as time goes by; `now` and then it cannot be reached."""

    def __init__(self, found: Evidence, unreachable: Callable[[int], bool]) -> None:
        self.found, self.unreachable, self.reads = found, unreachable, 0
        self.now = found.start

    def read(self) -> Evidence:
        self.reads += 1
        if self.unreachable(self.reads):
            raise PrometheusError("no answer")
        arms = {
            arm: tuple(
                msgspec.structs.replace(target, scrapes=tuple(s for s in target.scrapes if s.at <= self.now))
                for target in its
            )
            for arm, its in self.found.arms.items()
        }
        return msgspec.structs.replace(self.found, end=self.now, **arms)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_watching_ends_with_the_verdict_that_all_the_evidence_gives() -> None:
    for arm in (Arm(), Arm(bad={"error": 30}), Arm(slower=1.3)):
        found = evidence(Rules(), canary=[arm])
        recording = Recording(found, lambda number: number % 3 == 2)
        told: list[Trial] = []
        trial = watch(recording.read, sleep=recording.sleep, tell=told.append)
        assert (trial.verdict.verdict, trial.verdict.looks) == (judge(found).verdict, judge(found).looks)
        assert told[-1] is trial
        assert not any(one.verdict.final for one in told[:-1])


def test_watching_gives_up_when_prometheus_stays_away() -> None:
    recording = Recording(evidence(Rules()), lambda number: number > 5)
    with pytest.raises(PrometheusError, match="no answer"):
        watch(recording.read, sleep=recording.sleep, tell=lambda _: None)
    assert recording.reads == 9


def test_only_web_addresses_are_read() -> None:
    with pytest.raises(PrometheusError, match="write http://host:9090"):
        Prometheus("localhost:9090")
