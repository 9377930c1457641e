"""Workflows, the Spinnaker pipeline and the Databricks job name only what is there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from frontrow import main

HOUSE = Path(__file__).parents[2]
WORKFLOWS = sorted((HOUSE / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z.%/-][\w.%/ -]*):", (HOUSE / "Makefile").read_text(), re.MULTILINE))


def workflow(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text()))


def scripts(path: Path) -> str:
    steps = [step for job in workflow(path)["jobs"].values() for step in job.get("steps", [])]
    return "\n".join(step["run"].replace("\\\n", " ") for step in steps if "run" in step)


def unknown_words(words: list[str]) -> list[str]:
    """Of a `frontrow` command line: subcommands and options that the door does not know."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return words[:1]
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


def test_there_is_a_workflow_for_each_way_into_production() -> None:
    assert [path.stem for path in WORKFLOWS] == ["release", "test", "train"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_make_targets_that_people_have(path: Path) -> None:
    called = {
        word for line in re.findall(r"\bmake ([^|\n]+)", scripts(path)) for word in line.split() if "=" not in word
    }

    listed = {target for names in TARGETS for target in names.split()}
    assert called
    assert called <= listed


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_commands_and_options_that_exist(path: Path) -> None:
    for line in re.findall(r"\.venv/bin/frontrow ([^\n|)]+)", scripts(path)):
        assert unknown_words(line.replace('"', "").split()) == [], line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_bounds_each_job_and_says_what_it_may(path: Path) -> None:
    document = workflow(path)

    assert document["permissions"]["contents"] == "read"
    for job in document["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 360


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_that_a_stranger_can_write_gets_into_a_script(path: Path) -> None:
    # github.event.*, head_ref and inputs are set by whoever pushes or dispatches; scripts get them by the environment.
    assert not re.search(r"\$\{\{[^}]*(github\.event|head_ref|inputs\.|commits)", scripts(path))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_needs_only_jobs_and_steps_that_are_there(path: Path) -> None:
    jobs = workflow(path)["jobs"]
    for name, job in jobs.items():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= jobs.keys(), name
        steps = {step["id"] for step in job.get("steps", []) if "id" in step}
        assert set(re.findall(r"\bsteps\.(\w+)\.", json.dumps(job))) <= steps
        assert set(re.findall(r"\bneeds\.(\w+)\.", json.dumps(job))) <= jobs.keys()


def test_the_training_job_is_a_command_that_exists() -> None:
    job = json.loads((HOUSE / "release" / "databricks" / "train-job.json").read_text())
    (task,) = job["tasks"]
    call = task["python_wheel_task"]
    parameters = {parameter["name"] for parameter in job["parameters"]}

    assert (call["package_name"], call["entry_point"]) == ("frontrow", "frontrow")
    assert unknown_words(call["parameters"]) == []
    assert set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", json.dumps(call))) == parameters
    assert "MLFLOW_TRACKING_URI" in job["job_clusters"][0]["new_cluster"]["spark_env_vars"]
    assert task["job_cluster_key"] == job["job_clusters"][0]["job_cluster_key"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_scripts_are_shell(path: Path) -> None:
    for job in workflow(path)["jobs"].values():
        for step in job.get("steps", []):
            if "run" in step:
                shlex.split(re.sub(r"\$\{\{.*?\}\}", "value", step["run"].replace("<<<", " ")))


def test_the_bill_of_materials_is_of_every_locked_package_and_the_same_each_time(tmp_path: Path) -> None:
    lock = HOUSE / "requirements" / "serving.txt"
    bills = []
    for name in ("first.json", "second.json"):
        command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--output-reproducible"]
        subprocess.run(
            [*command, "--of", "JSON", "--output-file", str(tmp_path / name)],
            check=True,
            capture_output=True,
            timeout=100,
        )
        bills.append((tmp_path / name).read_bytes())
    locked = set(re.findall(r"^([\w.-]+)==([\w.+]+)", lock.read_text(), re.MULTILINE))

    listed = {(component["name"], component["version"]) for component in json.loads(bills[0])["components"]}
    assert listed == locked
    assert bills[0] == bills[1]
