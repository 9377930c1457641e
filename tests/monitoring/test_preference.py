"""Interleaved rankings tell which model visitors prefer."""

from pathlib import Path

import msgspec
import numpy as np
from click.testing import CliRunner

from monitoring import preference_report as report
from monitoring.cli import experiment
from monitoring.experiment import CLICK_MS
from monitoring.exposures import DAY_MS, EXPOSURES, FEEDBACK, PLACES, Exposure, Exposures, Feedback
from monitoring.interleaving import team_draft
from monitoring.journal import Journal, Reader
from monitoring.preference import Preference, preference

NOON = 1_795_435_200_000
IDS = [f"A{n}" for n in range(10)]
TEAMS = ["control", "treatment"] * 5


def shown(unit: str, at: int = NOON, **changes: object) -> Exposure:
    one = Exposure(NOON, "ranker", unit, "interleaved", "hash", "m/1+m/2", IDS, TEAMS)  # type: ignore[arg-type]
    return msgspec.structs.replace(one, at=at, **changes)


def click(unit: str, activity: str, after: int = 1_000) -> Feedback:
    return Feedback(NOON + after, unit, activity, "click")


def found(exposures: list[Exposure], feedback: list[Feedback]) -> Preference:
    result = preference("ranker", exposures, feedback)
    assert result is not None
    return result


def counts(result: Preference) -> tuple[int, int, int]:
    return result.control, result.treatment, result.undecided


def test_a_visitor_prefers_the_model_whose_picks_were_clicked() -> None:
    visitors = [shown(unit) for unit in "abcd"]
    result = found(visitors, [click("a", "A1"), click("b", "A3"), click("b", "A5"), click("c", "A0")])
    assert counts(result) == (1, 2, 0)
    assert (result.visitors, result.rankings) == (4, 4)
    assert result.share.value == 2 / 3


def test_a_visitor_counts_once_however_often_it_came() -> None:
    hours = [3_600_000 * hour for hour in range(3)]
    visits = [shown("a", NOON + hour) for hour in hours]
    clicks = [click("a", "A1", hours[0] + 1), click("a", "A1", hours[1] + 1), click("a", "A0", hours[2] + 1)]
    assert counts(found(visits, clicks)) == (0, 1, 0)


def test_as_many_clicks_on_the_picks_of_either_are_no_preference() -> None:
    assert counts(found([shown("a")], [click("a", "A0"), click("a", "A1")])) == (0, 0, 1)


def test_clicks_that_are_late_or_on_something_else_and_views_say_nothing() -> None:
    events = [click("a", "A1", CLICK_MS + 1), click("a", "elsewhere"), Feedback(NOON + 1, "a", "A1", "view")]
    assert counts(found([shown("a")], events)) == (0, 0, 0)


def test_another_experiment_and_visitors_of_one_model_are_left_out() -> None:
    others = [shown("b", experiment="other"), shown("c", variant="control", order=(), teams=())]
    assert found([shown("a"), *others], []).visitors == 1
    assert preference("ranker", others, []) is None


def test_the_share_is_the_one_that_visitors_were_made_with() -> None:
    random = np.random.default_rng(3)
    exposures, feedback = [], []
    better, worse = IDS, IDS[::-1]
    for number in range(400):
        unit = f"u{number}"
        draft = team_draft(worse, better, seed=unit)
        exposures.append(shown(unit, order=draft.order, teams=draft.teams))
        wanted = "treatment" if random.random() < 0.7 else "control"
        feedback.append(click(unit, draft.order[draft.teams.index(wanted)]))  # type: ignore[arg-type]
    result = found(exposures, feedback)
    assert result.control + result.treatment == 400
    assert result.share.low < 0.7 < result.share.high
    assert "treatment is better" in report.says(result)


def test_the_sentence_does_not_say_more_than_is_known() -> None:
    few = found([shown(unit) for unit in "ab"], [click("a", "A1"), click("b", "A0")])
    assert "a difference that chance can explain" in report.says(few)
    assert "nothing can be said yet" in report.says(found([shown("a")], []))
    many = [f"u{number}" for number in range(50)]
    assert "treatment is worse" in report.says(found([shown(u) for u in many], [click(u, "A0") for u in many]))


def test_every_draft_is_logged_and_other_exposures_once_a_day(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EXPOSURES, max_bytes=2**24)
    journal.start()
    exposures = Exposures(journal, "ranker", treatment_share=0.5)
    ids = [f"A{n}" for n in range(PLACES + 50)]
    for at in (NOON, NOON + 1, NOON + DAY_MS):
        exposures.saw("ada", "interleaved", "hash", "m", at, draft=team_draft(ids, ids, str(at)))
        exposures.saw("grace", "control", "hash", "m", at)
    journal.close()
    logged = list(Reader(tmp_path, EXPOSURES, Exposure))
    assert [len(one.order) for one in logged if one.variant == "interleaved"] == [PLACES] * 3
    assert sum(one.variant == "control" for one in logged) == 2
    assert all(len(one.teams) == len(one.order) for one in logged)


def test_the_split_between_control_and_both_is_judged_like_any_other() -> None:
    exposures = Exposures(None, "ranker", treatment_share=0.5)
    for number in range(4_000):
        exposures.saw(f"v{number}", "interleaved", "hash", "m", NOON, draft=team_draft(IDS, IDS, "x"))
    assert exposures.ratio().alarm


def test_the_report_of_a_folder_with_drafts_is_about_preference(tmp_path: Path) -> None:
    for kind, entries in ((EXPOSURES, [shown("a"), shown("b")]), (FEEDBACK, [click("a", "A1")])):
        journal = Journal(tmp_path, kind, max_bytes=2**24)
        journal.start()
        for entry in entries:
            journal.offer(entry)
        journal.close()
    out = tmp_path / "page.html"
    result = CliRunner().invoke(experiment, ["report", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Of the visitors who prefer one of the models 100.0% prefer treatment")
    assert "2 interleaved rankings" in result.output
    assert "prefer treatment" in out.read_text()
