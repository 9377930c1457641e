"""What the pages say is there, is there."""

import json
import re
from pathlib import Path

import pytest
from click import Group

from app.metrics import Metrics
from app.settings import variables
from frontrow import main

HOUSE = Path(__file__).parents[1]
PAGES = [HOUSE / "README.md", HOUSE / "CHANGELOG.md", *sorted((HOUSE / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def metric_names() -> set[str]:
    families = re.findall(r"# TYPE (\S+)", Metrics(["control"]).exposition().decode())
    suffixes = ("", "_bucket", "_count", "_sum")
    return {family + suffix for family in families for suffix in suffixes}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_json_block_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_setting_and_metric_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    assert isinstance(main, Group)
    commands = main.list_commands(None)  # type: ignore[arg-type]
    for block in blocks(page, "sh"):
        for command in re.findall(r"^(?:\w+=\S+ )*frontrow (\w+)", block, re.MULTILINE):
            assert command in commands, command
    for setting in re.findall(r"\bFRONTROW_[A-Z_]+[A-Z]\b", text):
        assert setting in variables(), setting
    known = metric_names()
    for metric in set(re.findall(r"\bfrontrow_[a-z_]+[a-z]\b", text)) - {"frontrow_client"}:
        assert metric in known, metric


def test_the_readme_shows_a_request_and_its_answer() -> None:
    shell, answer = blocks(HOUSE / "README.md", "sh")[-1], blocks(HOUSE / "README.md", "json")[0]
    sent = json.loads(shell.split("-d '")[1].rsplit("'", 1)[0])
    got = json.loads(answer)
    assert len(got["ranking"]) == len(sent["candidates"])
