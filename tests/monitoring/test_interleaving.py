from collections import Counter

import pytest

from monitoring.interleaving import Interleaved, team_draft, winner

CONTROL = [f"A{number}" for number in range(20)]
TREATMENT = [*CONTROL[10:], *CONTROL[:10]]
DRAWS = 4_000


def drafts() -> list[Interleaved]:
    return [team_draft(CONTROL, TREATMENT, f"request-{number}") for number in range(DRAWS)]


def test_every_candidate_is_in_the_answer_once() -> None:
    assert sorted(team_draft(CONTROL, TREATMENT, "one").order) == sorted(CONTROL)
    assert team_draft([], [], "none") == ([], [])


def test_the_same_request_gives_the_same_answer() -> None:
    assert team_draft(CONTROL, TREATMENT, "one") == team_draft(CONTROL, TREATMENT, "one")


def test_both_models_have_every_place_equally_often() -> None:
    for place in range(len(CONTROL)):
        share = sum(draft.teams[place] == "treatment" for draft in drafts()) / DRAWS
        assert share == pytest.approx(0.5, abs=0.04), place


def test_both_models_have_picked_as_many_after_every_round() -> None:
    for draft in drafts()[:200]:
        for places in range(2, len(CONTROL) + 1, 2):
            assert Counter(draft.teams[:places]) == {"control": places // 2, "treatment": places // 2}


def test_each_pick_is_the_best_of_its_model_that_was_left() -> None:
    for draft in drafts()[:200]:
        for place, (activity, team) in enumerate(zip(draft.order, draft.teams, strict=True)):
            left = [one for one in (CONTROL if team == "control" else TREATMENT) if one not in draft.order[:place]]
            assert activity == left[0]


def test_clicks_that_know_no_model_prefer_none() -> None:
    won = Counter(winner(draft, {f"A{number % 20}"}) for number, draft in enumerate(drafts()))
    assert won["treatment"] / DRAWS == pytest.approx(0.5, abs=0.04)


def test_the_model_that_ranks_what_is_clicked_higher_wins() -> None:
    shown = [(draft.order[:4], draft) for draft in drafts()]
    won = Counter(winner(draft, {"A10"} & set(top)) for top, draft in shown)
    assert won["treatment"] == DRAWS  # it is treatment's first, and control's eleventh


def test_clicks_for_both_are_a_tie() -> None:
    draft = team_draft(CONTROL, TREATMENT, "one")
    assert winner(draft, set(draft.order[:2])) is None
    assert winner(draft, set()) is None
