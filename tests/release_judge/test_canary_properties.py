"""What holds of the judge whatever was scraped."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import START, Array, evidence, scrapes

from release.evidence import OUTCOMES, Evidence, Scrape, Target
from release.judge import judge
from release.rules import Rules
from release.simulation import COARSE_EDGES, World

RULES = Rules(period_seconds=240, extensions=1)
LOOKS = 32
BETTER = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
BAD = (*OUTCOMES[1:], "unusable")


def drawn(seed: int, bad: dict[str, float], more: Array | None = None, slower: int = 0) -> Evidence:
    """Two like arms. The canary has `more` bad events (kinds, looks); in each look, `slower` of its rankings are so."""
    rng = np.random.default_rng(seed)
    arms = {}
    for arm, offset in (("canary", 4.0), ("baseline", 9.0)):
        durations = rng.poisson(400 * World().buckets(1.0), (LOOKS + 2, len(COARSE_EDGES) + 1)).astype(float)
        total = durations.sum(axis=1)
        counts = {name: rng.poisson(bad.get(name, 0.0), LOOKS + 2).astype(float) for name in BAD}
        if arm == "canary" and more is not None:
            counts = {name: count + extra for (name, count), extra in zip(counts.items(), more, strict=True)}
        if arm == "canary":
            moved = np.minimum(durations[:, 5], slower)
            durations[:, 5] -= moved
            durations[:, 15] += moved
        counts |= {"offered": total, "ok": total - sum(counts[name] for name in OUTCOMES[1:])}
        arms[arm] = (
            Target(arm, tuple(scrapes(RULES, LOOKS, offset, counts, durations, edges=COARSE_EDGES, code="x"))),
        )
    return Evidence(rules=RULES, start=START, end=START + (LOOKS + 2.5) * RULES.scrape_seconds, **arms)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.0, 0.3, 3.0]),
    before=st.lists(st.tuples(st.integers(0, 5), st.integers(0, LOOKS), st.integers(1, 15)), max_size=6),
    after=st.lists(st.tuples(st.integers(0, 5), st.integers(0, LOOKS), st.integers(1, 15)), min_size=1, max_size=12),
    slower=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_more_bad_events_and_slower_answers_of_the_canary_never_improve_the_verdict(
    seed: int,
    rate: float,
    before: list[tuple[int, int, int]],
    after: list[tuple[int, int, int]],
    slower: tuple[int, int],
) -> None:
    def extra(events: list[tuple[int, int, int]]) -> Array:
        found = np.zeros((len(BAD), LOOKS + 2))
        for kind, look, count in events:
            found[kind, look] += count
        return found

    bad = dict.fromkeys(BAD, rate)
    fewer = judge(drawn(seed, bad, extra(before), slower[0]))
    more = judge(drawn(seed, bad, extra(before + after), slower[0] + slower[1]))
    assert BETTER[more.verdict] <= BETTER[fewer.verdict]
    if fewer.verdict == "FAIL":
        assert more.looks <= fewer.looks


ONE_PERIOD = evidence(Rules(code_only=True))
DROPS = ("all", "started_at", "ready", "code_version", "models", "golden", "counts", "durations")


def without(scrape: Scrape, what: str, number: int, how: str) -> Scrape | None:
    """A scrape that lost one thing: the value itself, or what it says."""
    if what == "all":
        return None
    if what in ("counts", "durations"):
        values: dict[str, float | None] = dict(getattr(scrape, what))
        name = sorted(values)[number % len(values)]
        if how == "gone":
            del values[name]
        else:
            values[name] = float("nan") if how == "nan" else None
        return msgspec.structs.replace(scrape, **{what: values})
    empty: Any = {} if what in ("models", "golden") else None
    return msgspec.structs.replace(scrape, **{what: empty})


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["canary", "baseline"]),
            st.integers(0, ONE_PERIOD.rules.looks + 1),
            st.sampled_from(DROPS),
            st.integers(0, 100),
            st.sampled_from(["gone", "nan", "none"]),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_what_is_missing_or_not_a_number_never_passes(drops: list[tuple[str, int, str, int, str]]) -> None:
    arms: dict[str, list[Scrape | None]] = {arm: list(its[0].scrapes) for arm, its in ONE_PERIOD.arms.items()}
    for arm, scrape_number, what, number, how in drops:
        scrape = arms[arm][scrape_number]
        if scrape is not None:
            arms[arm][scrape_number] = without(scrape, what, number, how)
    left = {arm: (Target(arm, tuple(s for s in its if s is not None)),) for arm, its in arms.items()}
    assert judge(ONE_PERIOD).verdict == "PASS"
    assert judge(msgspec.structs.replace(ONE_PERIOD, **left)).verdict != "PASS"


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), rate=st.sampled_from([0.0, 3.0]), extra=st.integers(0, 10))
def test_evidence_that_was_stored_gives_the_identical_verdict(seed: int, rate: float, extra: int) -> None:
    found = drawn(seed, dict.fromkeys(BAD, rate), np.full((len(BAD), LOOKS + 2), float(extra)))
    stored = found.encode()
    again = msgspec.json.decode(stored, type=Evidence)
    assert again.encode() == stored
    assert judge(again).encode() == judge(found).encode()


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
def test_the_order_of_targets_and_of_values_is_irrelevant(seed: int, order: Any) -> None:
    one, two = (drawn(seed + number, dict.fromkeys(BAD, 1.0)) for number in (0, 1))
    renamed = [Target(f"other-{arm}", its[0].scrapes) for arm, its in two.arms.items()]
    both = msgspec.structs.replace(one, canary=(*one.canary, renamed[0]), baseline=(*one.baseline, renamed[1]))

    def shuffled(target: Target) -> Target:
        def mixed(values: dict[str, Any]) -> dict[str, Any]:
            return dict(order.sample(sorted(values.items()), len(values)))

        return Target(
            target.name,
            tuple(
                msgspec.structs.replace(scrape, counts=mixed(scrape.counts), durations=mixed(scrape.durations))
                for scrape in target.scrapes
            ),
        )

    turned = msgspec.structs.replace(
        both, canary=tuple(map(shuffled, reversed(both.canary))), baseline=tuple(map(shuffled, reversed(both.baseline)))
    )
    first, second = judge(both), judge(turned)
    assert (first.verdict, first.looks) == (second.verdict, second.looks)
    assert {reason.subject for reason in first.reasons} == {reason.subject for reason in second.reasons}
