import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from features.events import visitor_key
from monitoring.exposures import DAY_MS, EXPOSURES, Exposure, Exposures
from monitoring.journal import Journal, Reader
from monitoring.srm import LEAST_DEVIATION, PROBABILITY, STRENGTH, log_factor, ratio

UNITS, RUNS = 1_000_000, 300


def log_factors(treated: np.ndarray, share: float) -> np.ndarray:
    """The factor after each unit: the product of what the mixture foretold of each over what the share foretells."""
    before = np.arange(len(treated))
    foretold = (STRENGTH * share + np.cumsum(treated) - treated) / (STRENGTH + before)
    odds = np.where(treated, foretold / share, (1 - foretold) / (1 - share))
    return np.cumsum(np.log(odds))


def first_alarm(treated: np.ndarray, share: float) -> int | None:
    factors = log_factors(treated, share)
    observed = np.cumsum(treated) / np.arange(1, len(treated) + 1)
    alarms = (factors > -math.log(PROBABILITY)) & (np.abs(observed - share) >= LEAST_DEVIATION)
    return int(alarms.argmax()) + 1 if alarms.any() else None


def test_the_factor_is_that_of_a_beta_binomial_mixture() -> None:
    for control, treatment, share in ((0, 0, 0.5), (3, 9, 0.5), (90_000, 11_000, 0.1)):
        a, b = STRENGTH * share, STRENGTH * (1 - share)
        n = control + treatment
        exact = scipy.stats.betabinom.logpmf(treatment, n, a, b) - scipy.stats.binom.logpmf(treatment, n, share)
        assert log_factor(control, treatment, share) == pytest.approx(exact, rel=1e-9, abs=1e-6)


def test_the_factor_does_not_depend_on_how_often_somebody_looked() -> None:
    treated = np.random.default_rng(1).random(50_000) < 0.51
    along = log_factors(treated, 0.5)
    for seen in (1, 10, 4_321, 50_000):
        treatment = int(treated[:seen].sum())
        assert log_factor(seen - treatment, treatment, 0.5) == pytest.approx(along[seen - 1], abs=1e-6)


@pytest.mark.slow
def test_an_even_split_of_a_million_units_never_alarms_though_looked_at_after_every_one() -> None:
    random = np.random.default_rng(6)
    assert [run for run in range(RUNS) if first_alarm(random.random(UNITS) < 0.5, 0.5)] == []


def test_a_split_of_51_to_49_alarms() -> None:
    random = np.random.default_rng(7)
    units = [first_alarm(random.random(400_000) < 0.51, 0.5) for _ in range(40)]
    assert None not in units
    print(f"51/49 alarms after {np.median(units):,.0f} units in the median, {max(units):,} at most of 40 runs")
    assert np.median(units) < 100_000


def test_no_units_and_a_split_without_two_sides_are_no_alarm() -> None:
    assert not ratio(0, 0, 0.5).alarm
    assert not ratio(50_000, 0, 0.0).alarm
    assert not ratio(0, 50_000, 1.0).alarm


def test_a_deviation_that_is_real_but_tiny_is_no_alarm() -> None:
    found = ratio(100_000_000, 100_100_000, 0.5)
    assert found.p < PROBABILITY
    assert not found.alarm


def exposures_of(folder: Path) -> list[Exposure]:
    return list(Reader(folder, EXPOSURES, Exposure))


def test_a_visitor_is_written_once_a_day_with_the_reason(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EXPOSURES, max_bytes=2**20)
    journal.start()
    exposures = Exposures(journal, "ranker", treatment_share=0.5)
    for moment in (0, 1, DAY_MS - 1, DAY_MS, DAY_MS + 5):
        exposures.saw("ada", "treatment", "hash", "activity-ranker/7", moment)
    exposures.saw("bob", "control", "forced", "activity-ranker/6", 7)
    exposures.saw(None, "control", "fallback", "activity-ranker/6", 7)
    journal.close()
    ada, bob = (visitor_key(name).hex() for name in ("ada", "bob"))
    assert [(one.unit, one.at, one.reason) for one in exposures_of(tmp_path)] == [
        (ada, 0, "hash"),
        (ada, DAY_MS, "hash"),
        (bob, 7, "forced"),
    ]
    assert "ada" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_a_displaced_visitor_is_written_again_rather_than_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EXPOSURES, max_bytes=2**20)
    journal.start()
    exposures = Exposures(journal, "ranker", treatment_share=0.5, slots=1)
    for visitor in ("ada", "bob", "ada"):
        exposures.saw(visitor, "control", "hash", "m/1", 0)
    journal.close()
    assert {one.unit for one in exposures_of(tmp_path)} == {visitor_key(name).hex() for name in ("ada", "bob")}
    assert len(exposures_of(tmp_path)) == 3


def test_a_dropped_exposure_is_offered_again_and_counted_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EXPOSURES, max_bytes=2**20, max_waiting=1)
    exposures = Exposures(journal, "ranker", treatment_share=0.5)
    for visitor in ("ada", "bob", "bob"):
        exposures.saw(visitor, "control", "hash", "m/1", 0)
    assert exposures.ratio().control == 1
    journal.start()
    journal.close()
    assert len(exposures_of(tmp_path)) == 1


def test_todays_visitors_are_judged_by_themselves(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EXPOSURES, max_bytes=2**20)
    exposures = Exposures(journal, "ranker", treatment_share=0.5)
    for number in range(3_000):
        exposures.saw(f"visitor-{number}", "control" if number % 3 else "treatment", "hash", "m/1", 0)
    assert exposures.ratio().alarm
    exposures.saw("ada", "control", "hash", "m/1", DAY_MS)
    assert exposures.ratio()[:2] == (1, 0)
    assert not exposures.ratio().alarm
