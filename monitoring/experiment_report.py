"""An experiment's findings for people: first a sentence or two that say what to make of them, then the numbers."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from monitoring import page
from monitoring.experiment import Findings, Measured
from monitoring.guardrails import Guardrails
from monitoring.intervals import CONFIDENCE, Estimate

HEAD = ("METRIC", "CONTROL", "TREATMENT", "DIFFERENCE", "OF")


def says(found: Findings) -> str:
    """What to make of it, for somebody who decides and does not calculate."""
    if found.split.alarm:
        return (
            f"Do not use these numbers: treatment got {found.split.observed:.2%} of the visitors instead of "
            f"{found.split.intended:.2%}, which chance does not do. Find out who is missing first."
        )
    conversion = found.conversion
    sentence = (
        f"Of the visitors of treatment {conversion.treatment.value:.2%} had a {found.question.goal}, of those of "
        f"control {conversion.control.value:.2%}: {_verdict(conversion)}"
    )
    if found.guardrails is not None and found.guardrails.broken:
        sentence += f" But it has a price: {'; '.join(found.guardrails.broken)}."
    return sentence


def rows(found: Findings) -> Iterator[tuple[str, ...]]:
    """The metrics as rows of a table, with a head."""
    yield HEAD
    for one in _measured(found):
        yield (one.name, _text(one.control), _text(one.treatment), _signed(one.difference), _pair(one.units))
    if found.guardrails is not None:
        yield from _guardrail_rows(found.guardrails)


def facts(found: Findings) -> Iterator[str]:
    """What the numbers rest on."""
    first, last = (f"{datetime.fromtimestamp(at / 1e3, UTC):%Y-%m-%d %H:%M}" for at in (found.first_at, found.last_at))
    split = found.split
    yield f"Experiment {found.question.experiment}: visitors first seen from {first} to {last} UTC."
    yield (
        f"Split: {split.control:,} in control, {split.treatment:,} in treatment ({split.observed:.2%}, intended "
        f"{split.intended:.2%}); sample ratio mismatch: {'ALARM' if split.alarm else 'none'} (p at most {split.p:.3g})."
    )
    if found.crossed:
        yield f"{found.crossed:,} visitors saw both variants and are left out."
    if found.ndcg is None:
        yield "No logged ranking was clicked: nothing can be said of the order (FRONTROW_RANKING_LOG_SHARE)."
    if found.guardrails is None:
        yield "No guardrails: give --metrics the metrics of the service, with 1,000 rankings of each variant."
    yield f"Intervals hold the true value with {CONFIDENCE:.0%} confidence when looked at once, at an end fixed before."


def html(found: Findings) -> str:
    """The page."""
    head, *body = rows(found)
    parts = [
        page.headline(says(found)),
        page.table(head, body),
        page.figures(
            [
                page.intervals(
                    one.name, [page.Interval("control", *one.control), page.Interval("treatment", *one.treatment)]
                )
                for one in _measured(found)
                if one.control.is_known and one.treatment.is_known
            ]
        ),
        *(page.paragraph(fact) for fact in facts(found)),
    ]
    return page.page(f"Experiment {found.question.experiment}", parts)


def _verdict(one: Measured) -> str:
    value, low, high = (f"{100 * part:+.2f}" for part in one.difference)
    by = f"{value} percentage points ({low} to {high})"
    if one.difference.is_above_zero:
        return f"treatment is better by {by}."
    if one.difference.is_below_zero:
        return f"treatment is worse by {by}."
    return f"{by}, a difference that chance can explain."


def _measured(found: Findings) -> Sequence[Measured]:
    return [found.conversion] if found.ndcg is None else [found.conversion, found.ndcg]


def _guardrail_rows(found: Guardrails) -> Iterator[tuple[str, ...]]:
    control, treatment = found.control, found.treatment
    yield (
        "rankings that failed",
        _text(control.failed),
        _text(treatment.failed),
        _signed(found.failed_difference),
        _pair((control.rankings, treatment.rankings)),
    )
    yield ("p99", *(f"{1e3 * side.p99_seconds:.1f} ms" for side in (control, treatment)), "", "")


def _text(one: Estimate) -> str:
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})" if one.is_known else "unknown"


def _signed(one: Estimate) -> str:
    return f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})" if one.is_known else "unknown"


def _pair(units: tuple[int, int]) -> str:
    return f"{units[0]:,} / {units[1]:,}"
