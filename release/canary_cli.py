"""`frontrow canary`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from release.evidence import Evidence
    from release.judge import Trial
    from release.rules import Rules

# Exit codes. Whatever keeps the judge from judging is no verdict either.
EXITS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2}
RULE_OPTIONS = (
    click.option("--stage", type=click.Choice(["1", "5", "25", "50", "100"]), help="Percent of all traffic it takes."),
    click.option("--hotfix", is_flag=True, help="Judge hard faults and bad events alone, for 5 minutes."),
    click.option("--code-only", is_flag=True, help="No model changes: golden scores must equal the baseline's."),
    click.option("--canary-code", metavar="VERSION", help="Code version that the canary has to run."),
    click.option("--baseline-code", metavar="VERSION", help="Code version that the baseline has to run."),
    click.option(
        "--p99-ratio", type=float, default=1.10, show_default=True, help="Times the baseline's p99 tolerated."
    ),
    click.option("--slo-ms", type=float, default=100.0, show_default=True, help="What is promised of a ranking."),
    click.option("--share", type=float, help="Canary's share of both arms' requests. [default: by targets]"),
    click.option("--share-tolerance", type=float, default=0.05, show_default=True, help="How far off it may be."),
    click.option("--period-minutes", type=float, help="Judged before a PASS. [default: 10, or 5 for a hotfix]"),
    click.option("--extensions", type=int, default=3, show_default=True, help="Periods more, before it is given up."),
    click.option("--scrape-seconds", type=float, default=15.0, show_default=True, help="Prometheus' interval."),
)


def _rule_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(RULE_OPTIONS):
        command = option(command)
    return command


@click.group()
def canary() -> None:
    """Judge whether a new release may replace the old one."""


@canary.command()
@click.option("--prometheus", "url", metavar="URL", help="Where both arms are scraped.")
@click.option("--canary", "canary_selector", metavar="MATCHERS", help="""Such as 'job="canary"'.""")
@click.option("--baseline", "baseline_selector", metavar="MATCHERS", help="As fresh and as many as the canary.")
@click.option("--start", metavar="TIME", help="When both were ready: ISO 8601, or seconds since 1970. [default: now]")
@click.option("--watch", "watching", is_flag=True, help="Wait for the verdict.")
@click.option("--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Judge an evidence.json.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the verdict.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent to Prometheus.")
@_rule_options
@click.pass_context
def judge(
    context: click.Context,
    /,
    *,
    url: str | None,
    canary_selector: str | None,
    baseline_selector: str | None,
    start: str | None,
    watching: bool,
    replay: Path | None,
    out: Path,
    headers: Sequence[str],
    **options: Any,
) -> None:
    """Decide on a canary: exit code 0 PASS, 1 FAIL, 2 INCONCLUSIVE.

    Writes verdict.json, report.html, evidence.svg and evidence.json, from which --replay judges again.
    """
    from release.evidence import read_evidence
    from release.judge import Trial

    with _spoken_errors():
        if replay is not None:
            _check_alone(context)
            trial = Trial(read_evidence(replay))
        else:
            if url is None or canary_selector is None or baseline_selector is None:
                raise click.UsageError("--prometheus, --canary and --baseline are needed, or --replay")
            rules = _rules(options)
            arms = (canary_selector, baseline_selector)
            read = _reader(url, _pairs(headers), rules, arms, start)
            trial = _watch(read, rules) if watching else Trial(read())
        _write(trial, out)
    _say(trial, out)
    context.exit(EXITS[trial.verdict.verdict])


class _NoVerdict(click.ClickException):
    exit_code = EXITS["INCONCLUSIVE"]


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """What an operator can do something about is said in a line; anything else is a defect and keeps its traceback."""
    from release.errors import ReleaseError

    try:
        yield
    except (ReleaseError, OSError, ValueError) as error:
        raise _NoVerdict(str(error)) from error


def _check_alone(context: click.Context) -> None:
    """The rules are part of the evidence: with others, it would not be the same verdict."""
    given = [
        name
        for name in context.params
        if name not in ("replay", "out")
        and context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
    if given:
        raise click.UsageError(f"--replay judges by the rules of the evidence; leave out {', '.join(sorted(given))}")


def _rules(options: Mapping[str, Any]) -> Rules:
    from release.rules import HOTFIX_PERIOD_SECONDS, RELEASE_PERIOD_SECONDS, Rules

    settings = dict(options)
    minutes, stage = settings.pop("period_minutes"), settings.pop("stage")
    usual = HOTFIX_PERIOD_SECONDS if settings["hotfix"] else RELEASE_PERIOD_SECONDS
    return Rules(
        slo_seconds=settings.pop("slo_ms") / 1e3,
        period_seconds=usual if minutes is None else minutes * 60,
        stage=None if stage is None else int(stage),
        **settings,
    )


def _pairs(headers: Sequence[str]) -> dict[str, str]:
    pairs = [header.partition(":") for header in headers]
    if any(not (name.strip() and colon) for name, colon, _ in pairs):
        raise click.UsageError("write --header 'Name: value'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _reader(
    url: str, headers: Mapping[str, str], rules: Rules, arms: tuple[str, str], start: str | None
) -> Callable[[], Evidence]:
    from release.prometheus import Prometheus, checked

    canary, baseline = map(checked, arms)
    prometheus = Prometheus(url, headers=headers)
    began = prometheus.now() if start is None else _moment(start)
    return lambda: prometheus.evidence(rules, canary, baseline, began)


def _moment(text: str) -> float:
    """Return seconds since the epoch. Raises `BadParameter`."""
    try:
        moment = float(text)
    except ValueError:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            parsed = None
        moment = parsed.timestamp() if parsed and parsed.tzinfo else math.nan
    if not math.isfinite(moment):
        raise click.BadParameter(f"{text!r}: write 2026-11-23T12:00:00Z, or seconds since 1970", param_hint="--start")
    return moment


def _watch(read: Callable[[], Evidence], rules: Rules) -> Trial:
    from release.watch import watch

    looks = rules.looks * (1 + rules.extensions)
    with click.progressbar(length=looks, label="judging the canary", item_show_func=_strongest) as bar:

        def tell(trial: Trial) -> None:
            bar.update(trial.verdict.looks - bar.pos, trial)

        return watch(read, sleep=time.sleep, tell=tell)


def _strongest(trial: Trial | None) -> str | None:
    """What speaks most against the canary so far."""
    if trial is None:
        return None
    numbers = trial.verdict.numbers
    factors = {name: family["log10_factor"] for name, family in numbers["families"].items()}
    name = max(factors, key=lambda name: factors[name])
    return f"{name} 10^{factors[name]:.1f}, p99 {numbers['p99']['median_ratio']:.3f}"


def _write(trial: Trial, out: Path) -> None:
    from release.verdict_page import page
    from release.verdict_picture import draw

    out.mkdir(parents=True, exist_ok=True)
    picture = out / "evidence.svg"
    draw(trial, picture)
    (out / "evidence.json").write_bytes(trial.evidence.encode())
    (out / "verdict.json").write_bytes(trial.verdict.encode())
    (out / "report.html").write_text(page(trial.verdict, picture.read_text()))


def _say(trial: Trial, out: Path) -> None:
    verdict = trial.verdict
    click.echo(f"{verdict.verdict} after {verdict.judged_seconds / 60:g} minutes ({out / 'report.html'})")
    for reason in verdict.reasons:
        click.echo(f"  {reason.gate} {reason.subject}: {reason.says}")
