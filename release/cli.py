"""The commands `frontrow release ...`."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.cli import bundle

if TYPE_CHECKING:
    from release.cluster import Step, Target
    from release.history import Event, Release, Verdict
    from release.pipeline import Ending, Stopwatch
    from release.plan import Canary, Live, Plan

MODEL = "activity-ranker"
TARGETS = click.Choice(["deployment", "rollout", "docker"])
Command = Callable[..., Any]


def _by_digest(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", value):
        raise click.BadParameter(f"{value!r}: name the image by digest, since a tag can move")
    return value


_record_option = click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".frontrow/releases.jsonl"),
    show_default=True,
    help="The record of releases.",
)


def _plan_options(command: Command) -> Command:
    for option in (
        click.option("--model", "name", default=MODEL, show_default=True, help="Registered model."),
        click.option("--treatment", type=click.IntRange(1), help="No commit: the live code with this as treatment."),
        click.option(
            "--control", type=click.IntRange(1), help="No commit: the live code with this version as control."
        ),
        click.option("--message", help="Read flags from this text and not from the commit's message."),
        click.option("--since", metavar="COMMIT", help="What was pushed upon. Default: the commit's first parent."),
        click.option("--commit", default="HEAD", show_default=True, help="The pushed commit."),
    ):
        command = option(command)
    return command


_yes_option = click.option("--yes", is_flag=True, help="Do it; without this it is only said.")


@click.group()
def release() -> None:
    """Bring code and models into production, and back."""


release.add_command(bundle)


@release.command()
@_plan_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_record_option
def plan(*, as_json: bool, record: Path, **asked: Any) -> None:
    """Say what a push means, or new models: what is trained, what is released, and why.

    The commit's flags decide: [train], [release], [hotfix], [skip release], [model=7]; without any, the paths that it
    touches. What is live comes from the record of releases.

    \b
    frontrow release plan --commit HEAD
    frontrow release plan --treatment 9
    """  # noqa: D301 click reads the \b
    from release.history import now_live, read_history

    with _spoken_errors():
        current = now_live(read_history(record))
        live = None if current is None else current.live
        title, found = _make_plan(live, **asked)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        click.echo(_plan_page(title, found, live), nl=False)


@release.command()
@_plan_options
@click.option("--image", metavar="HOST/NAME@sha256:...", help="No plan: an image that was pushed before.")
@click.option("--repository", default="127.0.0.1:5000/frontrow", show_default=True, help="Of an OCI registry.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of what is live here.")
@click.option("--train", default="frontrow demo --force", show_default=True, help="Command that registers a model.")
@click.option("--rate", type=click.FloatRange(1), default=20, show_default=True, help="Requests a second to each arm.")
@click.option("--scrape-seconds", type=click.FloatRange(0.1, 300), default=15, show_default=True)
@click.option("--judge", default="", metavar="WORDS", help="More words for `frontrow canary judge`.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/release"),
    show_default=True,
    help="Gets the bundles, the verdict and the logs.",
)
@_record_option
def run(
    *,
    image: str | None,
    repository: str,
    port: int,
    train: str,
    rate: float,
    scrape_seconds: float,
    judge: str,
    folder: Path,
    record: Path,
    **asked: Any,
) -> None:
    """Do the whole of a release on this machine, with Docker, an OCI registry and Prometheus.

    Plan, train if the plan says so, bundle, image, push; then the image runs as a canary beside a fresh container of
    what is live, under load, and the judge decides: it is put live in the container `frontrow`, or destroyed.
    Exit code 0: released, or nothing to release; 1: the canary failed; 2: it could not be decided; 3: a step failed.

    \b
    frontrow release run
    frontrow release run --train "frontrow train sessions.parquet" --message "[train]"
    """  # noqa: D301 click reads the \b
    from release.pipeline import Canary, Pipeline, Stopwatch

    canary = Canary(rate, scrape_seconds, tuple(shlex.split(judge)))
    watch = Stopwatch(click.echo)
    pipeline = Pipeline(record, repository, folder, port, train, canary, watch)
    with _spoken_errors():
        if image is not None:
            ending = pipeline.release_image(image)
        else:
            live = pipeline.live()
            with watch.step("plan"):
                title, found = _make_plan(live, **asked)
                click.echo(_plan_page(title, found, live), nl=False)
            ending = pipeline.release(found)
    _say_ending(ending, watch)
    if ending.event == "refused" and ending.release is not None:
        sys.exit(1 if ending.release.verdict == "FAIL" else 2)


@release.command()
@click.option("--commit", default="HEAD", show_default=True, help="The code of the image.")
@click.option(
    "--bundles",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("build/model"),
    show_default=True,
    help="Folder with the bundles `control` and `treatment`.",
)
@click.option("--push", "repository", metavar="HOST/NAME", help="Push it to this repository of an OCI registry.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def image(*, commit: str, bundles: Path, repository: str | None, as_json: bool) -> None:
    """Build the image of a commit and two bundles. What is not committed does not get in."""
    from release.image import build_image, push_image

    with _spoken_errors():
        tag = build_image(commit, bundles, name="frontrow")
        pushed = push_image(tag, repository) if repository else None
    facts = {"tag": tag} if pushed is None else dataclasses.asdict(pushed)
    click.echo(json.dumps(facts) if as_json else pushed.name if pushed else tag)


@release.command()
@click.option("--image", required=True, callback=_by_digest, metavar="HOST/NAME@sha256:...")
@click.option("--judge", callback=_by_digest, metavar="HOST/NAME@sha256:...", help="Image of the canary judge.")
@click.option(
    "--overlay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("k8s/overlays/production"),
    show_default=True,
)
@click.option("--canary", type=click.Choice(["full", "short"]), default="full", show_default=True, help="As planned.")
@_yes_option
def deploy(*, image: str, judge: str | None, overlay: Path, canary: Canary, yes: bool) -> None:
    """Apply the manifests of an overlay with an image."""
    from release.cluster import apply_overlay

    images = {"frontrow": image} | ({"frontrow-judge": judge} if judge else {})
    options = ["--hotfix"] if canary == "short" else []
    _do(apply_overlay(overlay, images, Path("build/deploy"), judge_options=options), yes)


@release.command("record")
@click.option("--image", "name", required=True, metavar="NAME", help="The pushed image, by tag or digest.")
@click.option("--event", type=click.Choice(["released", "refused", "rolled-back"]), required=True)
@click.option("--verdict", type=click.Choice(["PASS", "FAIL", "INCONCLUSIVE", "none"]), required=True)
@click.option("--reason", default="", help="A sentence for the next reader.")
@_record_option
def add_record(*, name: str, event: Event, verdict: Verdict, reason: str, record: Path) -> None:
    """Add what happened to an image to the record, for a pipeline that is not `frontrow release run`."""
    from release.history import Release, append, now
    from release.image import pull_image

    with _spoken_errors():
        image = dataclasses.asdict(pull_image(name))
        entry = Release(at=now(), event=event, verdict=verdict, reason=reason, **image)
        append(record, entry)
    click.echo(f"{entry.tag}: {event}, verdict {verdict}")


@release.command()
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="How many, the newest first.")
@click.option("--check", is_flag=True, help="Ask the OCI registry whether each image is still there.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_record_option
def history(*, count: int, check: bool, as_json: bool, record: Path) -> None:
    """List the last releases: code, models, digest, when, and what the canary said."""
    import msgspec

    from release.history import now_live, read_history
    from release.image import is_in_registry

    with _spoken_errors():
        every = read_history(record)
        newest = every[::-1][:count]
        live = now_live(every)
        there = {one.image: is_in_registry(one.image) for one in newest} if check else {}
    if as_json:
        click.echo(msgspec.json.encode(newest).decode())
        return
    if not newest:
        click.echo(f"nothing was released yet: there is no record at {record}")
        return
    for line in _history_page(newest, live, there):
        click.echo(line)


@release.command()
@click.option("--to", "wanted", metavar="NAME", help="Digest, tag or code. Default: what was live before.")
@click.option("--target", type=TARGETS, default="deployment", show_default=True, help="What runs the image.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the target docker.")
@click.option("--reason", default="", help="A sentence for the record.")
@_record_option
@_yes_option
def rollback(*, wanted: str | None, target: Target, port: int, reason: str, record: Path, yes: bool) -> None:
    """Say what brings an earlier image back, and with --yes do it.

    \b
    frontrow release rollback
    frontrow release rollback --to 3f2a9c41d0be-c7-t8 --reason "slow searches" --yes
    """  # noqa: D301 click reads the \b
    import msgspec

    from release.cluster import check_what_answers, put_live
    from release.history import append, earlier, now, now_live, read_history

    with _spoken_errors():
        every = read_history(record)
        back = earlier(every, wanted)
        live = now_live(every)
        steps = put_live(back.image, target, port=port)
    assert live is not None  # or `earlier` had raised
    for word, one in (("live now", live), ("goes back to", back)):
        click.echo(f"{word + ':':14}{one.tag}  code {one.code}, control {one.control}, treatment {one.treatment}")
    if back.event == "rolled-back" or back.verdict != "PASS":
        click.echo(f"{'':14}its canary said: {back.verdict}")
    if _do(steps, yes):
        entry = msgspec.structs.replace(back, at=now(), event="rolled-back", reason=reason or f"instead of {live.tag}")
        with _spoken_errors():
            if target == "docker":
                check_what_answers(port, back.live)
            append(record, entry)
        click.echo(f"{back.tag} is live again")


def _make_plan(
    live: Live | None,
    *,
    commit: str,
    since: str | None,
    message: str | None,
    control: int | None,
    treatment: int | None,
    name: str,
) -> tuple[str, Plan]:
    """The plan, and what it is a plan for."""
    from release.commit import read_commit
    from release.plan import plan_models, plan_push

    if control is not None or treatment is not None:
        return "new models", plan_models(control, treatment, live=live, name=name)
    pushed = read_commit(commit, since=since)
    found = plan_push(message or pushed.message, pushed.paths, code=pushed.revision, live=live, name=name)
    return f"{pushed.revision} {pushed.subject}", found


class _Refused(click.ClickException):
    exit_code = 3  # as `frontrow serve` and `frontrow bundle` end when something cannot be served


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """What an operator can do something about is said in a line; anything else is a defect and keeps its traceback."""
    from registry import RegistryError
    from release.errors import ReleaseError

    try:
        yield
    except (ReleaseError, RegistryError, OSError) as error:
        raise _Refused(str(error)) from error


def _do(steps: Sequence[Step], yes: bool) -> bool:
    """Run the steps or only say them; whether they were run."""
    from release.cluster import perform

    if yes:
        with _spoken_errors():
            perform(steps, lambda command: click.echo(f"$ {command}"))
        return True
    click.echo("would run:")
    for step in steps:
        click.echo(f"  # {step.why}\n  {step}")
    click.echo("nothing was changed; --yes does it")
    return False


def _say_ending(ending: Ending, watch: Stopwatch) -> None:
    if ending.release is not None:
        verdict = f", verdict {ending.release.verdict}" if ending.event else ""
        click.echo(f"{ending.release.image}\n{ending.release.tag}: {ending.event or 'unchanged'}{verdict}")
    click.echo(f"because {ending.reason}")
    click.echo("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in watch.seconds.items()))


def _plan_page(title: str, plan: Plan, live: Live | None) -> str:
    canary = f"yes, with the {plan.canary} canary" if plan.release else "no"
    facts = {"train": "yes" if plan.train else "no", "release": canary}
    if plan.release:
        facts |= {"code": plan.code, "control": plan.control or "", "treatment": plan.treatment or ""}
    shown = f"code {live.code}, control {live.control}, treatment {live.treatment}" if live else "nothing"
    facts["live now"] = shown
    lines = [title, *(f"  {name:10} {fact}" for name, fact in facts.items())]
    return "\n".join([*lines, "because", *(f"  - {reason}" for reason in plan.reasons)]) + "\n"


def _history_page(releases: Sequence[Release], live: Release | None, there: dict[str, bool]) -> Iterator[str]:
    heads = ["", "WHEN (UTC)", "EVENT", "CODE", "CONTROL", "TREATMENT", "VERDICT", "DIGEST"]
    rows = [[*heads, *(["REGISTRY"] if there else [])]]
    for one in releases:
        when = f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M}"
        row = [
            "*" if one is live else "",
            when,
            one.event,
            one.code,
            one.control,
            one.treatment,
            one.verdict,
            one.digest,
        ]
        rows.append([*row, *(["there" if there[one.image] else "gone"] if there else [])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    if live is not None:
        yield f"* is live; its image is {live.image}"
