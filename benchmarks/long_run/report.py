"""What a long run found: a table with a verdict in each row, and a picture of what the lasting process held."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.long_run.run import Outcome
from benchmarks.long_run.samples import MIB, slope
from benchmarks.picture import BLUE, GREEN, INK, ORANGE, STYLE

WARM_UP_SHARE = 0.5  # a process touches memory for the first time for some ten minutes
MOST_MIB_PER_HOUR = 1.0
SURE = 2.0  # standard errors


class Row(NamedTuple):
    """`holds` is None where there is nothing to promise, or where the run was too short to tell."""

    what: str
    found: str
    promise: str = ""
    holds: bool | None = None


def rows(outcome: Outcome) -> list[Row]:
    return [*_requests(outcome), *_promises(outcome), *_held(outcome)]


def failed(outcome: Outcome) -> bool:
    return any(row.holds is False for row in rows(outcome))


def table(outcome: Outcome, picture: str | None = None) -> str:
    lines = ["| | found | promise | |", "|---|--:|--:|---|"]
    verdicts = {None: "", True: "holds", False: "**broken**"}
    lines += [f"| {row.what} | {row.found} | {row.promise} | {verdicts[row.holds]} |" for row in rows(outcome)]
    if outcome.ledger.examples:
        lines += ["", *(f"- {example}" for example in outcome.ledger.examples)]
    if differences := [text for rest in outcome.rests for text in rest.differences]:
        lines += ["", *(f"- {text}" for text in differences[:10])]
    if picture is not None:
        lines += ["", f"![What the lasting process held]({picture})"]
    return "\n".join(lines) + "\n"


def _requests(outcome: Outcome) -> Iterator[Row]:
    ledger, statuses = outcome.ledger, outcome.ledger.statuses
    yield Row("requests", f"{outcome.plan.requests:,} in {outcome.seconds / 60:.1f} min")
    yield Row("callers that hung up", f"{int(ledger.left.sum()):,}")
    yield Row(
        "answered 200, by model version",
        ", ".join(f"{name}: {count:,}" for name, count in sorted(ledger.versions.items())),
    )
    yield Row("answered 500, all poisoned", f"{statuses[500]:,}")
    others = sum(count for status, count in statuses.items() if status not in (200, 500))
    yield Row("answered otherwise (503)", f"{others:,}")
    yield Row("asked again, after a connection ended without a word", f"{ledger.asked_again:,}")
    yield Row("SIGTERMs amid requests, all with exit code 0", f"{outcome.terminations}")
    yield Row("model swaps", f"{outcome.swaps}")


def _promises(outcome: Outcome) -> Iterator[Row]:
    verdicts = outcome.verdicts
    for what, count in (
        ("lost", verdicts.lost),
        ("doubled", verdicts.doubled),
        ("crossed", verdicts.crossed),
        ("other than that model version alone says, to the last bit", verdicts.wrong),
        ("failed though not poisoned, or the reverse", verdicts.misjudged),
        ("otherwise in the service's log than the caller was told", verdicts.contradicted),
    ):
        yield Row(what, f"{count:,}", "0", count == 0)
    differing = sum(bool(rest.differences) for rest in outcome.rests)
    yield Row(
        f"rests at which metrics and callers differ, of {len(outcome.rests)}", f"{differing}", "0", differing == 0
    )


def _held(outcome: Outcome) -> Iterator[Row]:
    """Of the process that lived through it all."""
    warm_up = WARM_UP_SHARE * outcome.seconds
    for of in ("rss", "pss"):
        found = slope(outcome.samples, of, warm_up)
        if found is None:
            yield Row(f"{of.upper()}, MiB/h", "too short to tell")
            continue
        text = f"{found.mib_per_hour:+.2f} ± {SURE * found.error:.2f} from {found.seconds / 60:.0f} min"
        if of == "rss":
            yield Row("RSS, MiB/h", text, f"at most {MOST_MIB_PER_HOUR:g}", found.mib_per_hour <= MOST_MIB_PER_HOUR)
        else:
            yield Row("PSS, MiB/h", text)
    rests = [rest.sample for rest in outcome.rests]
    warm = [sample for sample in rests if sample.seconds >= warm_up]
    for what, attribute in (("open descriptors", "descriptors"), ("asyncio tasks", "tasks"), ("threads", "threads")):
        values = sorted({getattr(sample, attribute) for sample in warm})
        constant = None if len(warm) < 2 else len(values) == 1
        shown = f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"
        yield Row(f"{what} at rest, {len(warm)} times", shown, "constant", constant)


def draw(outcome: Outcome, path: Path) -> None:
    """RSS and PSS (above), descriptors and tasks (below), over minutes; the ending of `path` says SVG or PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    samples = outcome.samples
    minutes = [sample.seconds / 60 for sample in samples]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for values, color, label in (
            ([sample.rss / MIB for sample in samples], BLUE, "RSS"),
            ([sample.pss / MIB for sample in samples], GREEN, "PSS"),
        ):
            above.plot(minutes, values, color=color, label=label, linewidth=1)
        above.axvline(WARM_UP_SHARE * outcome.seconds / 60, color=INK, linestyle="--", linewidth=1, label="warm")
        for life in outcome.others:
            above.plot(
                [sample.seconds / 60 for sample in life],
                [sample.rss / MIB for sample in life],
                color=INK,
                linewidth=0.6,
            )
        above.set(ylabel="MiB")
        below.plot(
            minutes, [sample.descriptors for sample in samples], color=ORANGE, label="descriptors", linewidth=0.6
        )
        below.plot(minutes, [sample.tasks for sample in samples], color=BLUE, label="tasks", linewidth=0.6)
        below.set(xlabel="minutes", ylim=(0, None))
        for axes in (above, below):
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
        figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else {})
