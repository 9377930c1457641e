"""`frontrow release` as people and pipelines call it; docker and kubectl are programs that write down how."""

import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from git_houses import GitHouse
from release_records import A, B, C

from release.cli import release as command
from release.history import Release, append, read_history

STRICT = "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges"
SETTINGS = "--env FRONTROW_PORT=9000 --env FRONTROW_LAME_DUCK_SECONDS=1"
IMAGE = f"registry.example/frontrow@sha256:{'e' * 64}"


class Programs:
    """Stands before every other docker and kubectl; `calls` are the command lines that it was called with."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "calls"
        self._bin = folder / "bin"
        self._bin.mkdir()
        for name in ("docker", "kubectl"):
            self.does(name, "exit 0")

    def does(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>{self._log}\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def path(self) -> str:
        return f"{self._bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", programs.path)
    return programs


@pytest.fixture
def record(tmp_path: Path) -> Path:
    record = tmp_path / "releases.jsonl"
    for one in (A, B, C):
        append(record, one)
    return record


@contextmanager
def answering(release: Release) -> Iterator[int]:
    """The port of a service that says that it runs what was released."""
    models = [
        {"variant": variant, "name": name, "version": version}
        for variant, (name, version) in (
            ("control", release.control.split("/")),
            ("treatment", release.treatment.split("/")),
        )
    ]
    document = json.dumps({"code_version": release.code, "models": models}).encode()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_plan_is_printed_for_people_and_for_programs(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = GitHouse(tmp_path)
    revision = house.commit("[hotfix] Answer sooner", app__routes_py="1")
    monkeypatch.chdir(tmp_path)

    shown = call("plan", "--record", record)
    plan = json.loads(call("plan", "--record", record, "--json").output)

    assert f"{revision} [hotfix] Answer sooner" in shown.output
    assert "yes, with the short canary" in shown.output
    assert "  - [hotfix]: " in shown.output
    assert (plan["train"], plan["release"], plan["code"]) == (False, True, revision)
    assert (plan["control"], plan["treatment"]) == ("models:/activity-ranker/7", "models:/activity-ranker/8")


def test_a_message_can_stand_in_for_the_commits(tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GitHouse(tmp_path).commit("[wip] Answer sooner", app__routes_py="1")
    monkeypatch.chdir(tmp_path)

    refused = call("plan", "--record", record)
    planned = call("plan", "--record", record, "--message", "[skip release]", "--json")

    assert (refused.exit_code, "[wip] is no flag" in refused.output) == (3, True)
    assert json.loads(planned.output)["release"] is False


def test_new_models_are_planned_without_a_commit(record: Path) -> None:
    plan = json.loads(call("plan", "--record", record, "--treatment", 9, "--json").output)

    assert (plan["code"], plan["treatment"]) == (C.code, "models:/activity-ranker/9")


def test_the_history_lists_the_last_ten_and_marks_what_is_live(record: Path) -> None:
    for _ in range(5):
        for one in (A, B):
            append(record, one)

    lines = call("history", "--record", record).output.splitlines()

    assert len(lines) == 1 + 10 + 1
    assert [line.split()[0] for line in lines[1:11]].count("*") == 1
    assert lines[1].startswith("*")
    for fact in ("2026-01-01 00:00", "released", B.code, "activity-ranker/7", "activity-ranker/8", "PASS", B.digest):
        assert fact in lines[1]
    assert lines[-1].endswith(B.image)


def test_the_history_asks_the_registry_which_images_are_left(record: Path, programs: Programs) -> None:
    programs.does("docker", f'case "$*" in *{B.digest}) exit 1;; esac')

    lines = call("history", "--record", record, "--check").output.splitlines()

    assert [line.split()[-1] for line in lines[1:4]] == ["there", "gone", "there"]


def test_a_rollback_says_what_it_would_do_and_does_nothing(record: Path, programs: Programs) -> None:
    said = call("rollback", "--record", record)

    assert said.exit_code == 0, said.output
    assert f"kubectl --namespace frontrow set image deployment/frontrow frontrow={B.image}" in said.output
    assert "nothing was changed" in said.output
    assert programs.calls == []
    assert read_history(record) == [A, B, C]


@pytest.mark.parametrize(
    ("target", "called"),
    [
        (
            "deployment",
            [
                f"kubectl --namespace frontrow set image deployment/frontrow frontrow={B.image}",
                "kubectl --namespace frontrow rollout status deployment/frontrow --timeout=900s",
            ],
        ),
        (
            "rollout",
            [
                f"kubectl --namespace frontrow set image deployment/frontrow frontrow={B.image}",
                "kubectl argo rollouts --namespace frontrow status frontrow --timeout=900s",
            ],
        ),
        (
            "docker",
            [
                "docker ps --all --quiet --filter name=^frontrow$",
                f"docker pull --quiet {B.image}",
                "docker stop --time 45 frontrow",
                "docker rm --force frontrow",
                f"docker run --detach --name frontrow --network host {STRICT} {SETTINGS} {B.image}",
            ],
        ),
    ],
)
def test_a_rollback_with_yes_puts_the_earlier_image_live_by_its_digest(
    record: Path, programs: Programs, target: str, called: list[str]
) -> None:
    programs.does("docker", "[ $1 != ps ] || echo 0123456789ab")

    with answering(B) as port:
        done = call("rollback", "--record", record, "--target", target, "--port", port, "--reason", "it hurt", "--yes")

    assert done.exit_code == 0, done.output
    assert [line.replace(str(port), "9000") for line in programs.calls] == called
    last = read_history(record)[-1]
    assert (last.event, last.digest, last.code, last.reason) == ("rolled-back", B.digest, B.code, "it hurt")


def test_a_rollback_after_which_something_else_answers_is_not_recorded(record: Path, programs: Programs) -> None:
    with answering(A) as port:
        failed = call("rollback", "--record", record, "--target", "docker", "--port", port, "--yes")

    assert (failed.exit_code, f"code='{A.code}'" in failed.output, f"code='{B.code}'" in failed.output) == (
        3,
        True,
        True,
    )
    assert read_history(record) == [A, B, C]


def test_a_second_rollback_goes_one_further_back(record: Path, programs: Programs) -> None:
    call("rollback", "--record", record, "--yes")
    call("rollback", "--record", record, "--yes")

    assert [one.digest for one in read_history(record)[3:]] == [B.digest, A.digest]


def test_a_rollback_that_fails_is_not_recorded_and_says_the_programs_last_words(
    record: Path, programs: Programs
) -> None:
    programs.does("kubectl", "echo 'error: timed out waiting for the condition' >&2; exit 1")

    failed = call("rollback", "--record", record, "--yes")

    assert failed.exit_code == 3
    assert "timed out waiting for the condition" in failed.output
    assert len(programs.calls) == 1
    assert read_history(record) == [A, B, C]


def test_a_missing_program_is_named(record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    failed = call("rollback", "--record", record, "--yes")

    assert (failed.exit_code, "kubectl is not installed" in failed.output) == (3, True)


def test_an_overlay_is_applied_with_the_image_by_digest(
    tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = tmp_path / "k8s" / "overlays" / "production"
    overlay.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    done = call("deploy", "--image", IMAGE, "--overlay", "k8s/overlays/production", "--yes")

    assert done.exit_code == 0, done.output
    assert programs.calls == ["kubectl apply -k build/deploy"]
    written = yaml.safe_load((tmp_path / "build" / "deploy" / "kustomization.yaml").read_text())
    assert written["resources"] == ["../../k8s/overlays/production"]
    assert written["images"] == [
        {"name": "frontrow", "newName": "registry.example/frontrow", "digest": f"sha256:{'e' * 64}"}
    ]


def test_an_image_is_deployed_by_digest_only(tmp_path: Path, programs: Programs) -> None:
    refused = call("deploy", "--image", "registry.example/frontrow:latest", "--overlay", tmp_path, "--yes")

    assert refused.exit_code == 2
    assert programs.calls == []


LABELS = {
    "org.opencontainers.image.revision": "codee",
    "frontrow.model.control": "activity-ranker/9",
    "frontrow.model.treatment": "activity-ranker/10",
}


def test_another_pipeline_can_record_what_happened_to_an_image(record: Path, programs: Programs) -> None:
    facts = json.dumps([{"RepoDigests": [f"other/frontrow@{A.digest}", IMAGE], "Config": {"Labels": LABELS}}])
    programs.does("docker", f"[ $1 != image ] || echo '{facts}'")

    done = call("record", "--record", record, "--image", IMAGE, "--event", "released", "--verdict", "PASS")

    assert done.exit_code == 0, done.output
    last = read_history(record)[-1]
    assert (last.image, last.tag) == (IMAGE, "codee-c9-t10")
    assert (last.code, last.control, last.treatment) == ("codee", "activity-ranker/9", "activity-ranker/10")


@pytest.mark.parametrize(
    ("facts", "because"),
    [
        ({"RepoDigests": [IMAGE], "Config": {"Labels": None}}, "has no label"),
        ({"RepoDigests": [], "Config": {"Labels": LABELS}}, "has no digest"),
    ],
)
def test_an_image_that_is_not_ours_or_not_pushed_is_not_recorded(
    record: Path, programs: Programs, facts: object, because: str
) -> None:
    programs.does("docker", f"[ $1 != image ] || echo '{json.dumps([facts])}'")

    refused = call("record", "--record", record, "--image", IMAGE, "--event", "released", "--verdict", "PASS")

    assert (refused.exit_code, because in refused.output) == (3, True)
    assert read_history(record) == [A, B, C]
