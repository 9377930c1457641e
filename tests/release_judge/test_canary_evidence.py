"""Both arms on one clock, and the file that holds them."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from recorded import START, Arm, evidence

from release.alignment import align
from release.evidence import Evidence, EvidenceError, Scrape, Target, read_evidence
from release.rules import Rules

RULES = Rules()


@pytest.mark.parametrize("offset", [0.0, 0.001, 7.0, 14.999])
def test_a_look_has_what_was_counted_since_the_last_whenever_targets_are_scraped(offset: float) -> None:
    course = align(evidence(RULES, canary=[Arm(bad={"error": 3}, offset=offset)]))
    assert course.looks == RULES.looks
    assert course.events[0, 0] == pytest.approx(3.0)
    assert course.finished == pytest.approx(1500.0)
    assert course.durations.sum(axis=-1) == pytest.approx(1500.0)
    assert not any(missing.any() for missing in course.missing.values())


def test_scrapes_that_come_a_little_early_or_late_lose_nothing() -> None:
    rng = np.random.default_rng(1)
    found = evidence(RULES)
    wobbly = [msgspec.structs.replace(one, at=one.at + float(rng.uniform(-3, 3))) for one in found.canary[0].scrapes]
    course = align(msgspec.structs.replace(found, canary=(Target("wobbly", tuple(wobbly)),)))
    assert not any(missing.any() for missing in course.missing.values())
    assert course.finished[0, 0].sum() == pytest.approx(1500.0 * RULES.looks)


def test_a_missed_scrape_is_missed_in_both_arms_and_what_was_counted_comes_with_the_next() -> None:
    found = evidence(RULES)
    scrapes = found.canary[0].scrapes
    course = align(msgspec.structs.replace(found, canary=(Target("gap", scrapes[:5] + scrapes[6:]),)))
    assert np.flatnonzero(course.missing["error"]).tolist() == [4, 5]
    assert course.finished[:, 0, 3:6].tolist() == [pytest.approx([0, 0, 4500])] * 2


def test_a_target_that_joins_late_counts_from_its_first_scrape_and_is_no_gap() -> None:
    found = evidence(RULES, canary=[Arm(), Arm()])
    late = Target("late", found.canary[1].scrapes[10:])
    course = align(msgspec.structs.replace(found, canary=(found.canary[0], late)))
    assert not course.missing["error"].any()
    assert course.targets[0, [0, 9, 10, 40]].tolist() == [1, 1, 2, 2]
    assert course.finished[0, 0, [8, 9, 10]].tolist() == pytest.approx([1500, 1500, 3000])


def test_an_edge_that_is_no_bucket_is_replaced_by_the_next_and_without_any_there_is_no_evidence() -> None:
    assert align(evidence(RULES)).slow_over == (0.1, 0.25)
    blind = align(evidence(Rules(slo_seconds=3)))
    assert blind.slow_over == (np.inf, np.inf)
    assert blind.missing["slow"].all()


def test_looks_wait_until_everything_around_them_had_time_to_be_scraped() -> None:
    found = evidence(RULES)
    ends = [START + 15, START + 15 + 22.4, START + 15 + 37.5, START + 10_000]
    assert [align(msgspec.structs.replace(found, end=end)).looks for end in ends] == [0, 0, 1, 160]


def test_evidence_that_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    target = Target("x", (Scrape(at=START), Scrape(at=START - 1)))
    with pytest.raises(ValueError, match="x: scrapes are not in order of time"):
        Evidence(rules=RULES, start=START, end=START, canary=(target,), baseline=())
    same = Target("x", ())
    with pytest.raises(ValueError, match="x: in both arms"):
        Evidence(rules=RULES, start=START, end=START, canary=(same,), baseline=(same,))
    with pytest.raises(ValueError, match="evidence of format 2"):
        Evidence(format=2, rules=RULES, start=START, end=START, canary=(), baseline=())
    broken = tmp_path / "evidence.json"
    broken.write_bytes(evidence(RULES).encode()[:-10])
    with pytest.raises(EvidenceError, match=r"evidence\.json: Input data was truncated"):
        read_evidence(broken)
    broken.write_text('{"format": 1, "rules": {"p99_ratio": 0.5}}')
    with pytest.raises(EvidenceError, match=r"p99 ratio 0\.5"):
        read_evidence(broken)


def test_the_digest_changes_with_any_number() -> None:
    one, other = evidence(RULES), evidence(RULES, canary=[Arm(bad={"error": 1})])
    assert one.sha256() == evidence(RULES).sha256() != other.sha256()
