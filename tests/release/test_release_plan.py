"""What a push means: the table that people can hold the plan to."""

import pytest

from release.errors import FlagError
from release.flags import ALLOWED
from release.plan import Live, NothingLive, Plan, plan_models, plan_push

LIVE = Live("1111aaaa2222", "activity-ranker/7", "activity-ranker/8")
CODE = "9999ffff0000"
LIVE_7, LIVE_8 = "models:/activity-ranker/7", "models:/activity-ranker/8"
CHALLENGER, CHAMPION = "models:/activity-ranker@challenger", "models:/activity-ranker@champion"

NOTHING = (False, False, "full", None, None)
CODE_ONLY = (False, True, "full", LIVE_7, LIVE_8)
TRAINED = (True, True, "full", LIVE_7, CHALLENGER)
TRAINED_ONLY = (True, False, "full", None, None)
HOTFIX = (False, True, "short", LIVE_7, LIVE_8)
PINNED = (False, True, "full", LIVE_7, "models:/activity-ranker/12")

# message, paths, (train, release, canary, control, treatment)
PUSHES = [
    # No flags: the paths decide.
    ("Answer sooner", ["app/routes.py"], CODE_ONLY),
    ("Cut batches at 512 rows", ["batching/policy.py", "tests/batching/test_batching_policy.py"], CODE_ONLY),
    ("A faster kernel", ["scoring/compiled.py", "docs/scoring.md"], CODE_ONLY),
    ("Refuse a bundle without golden rows", ["registry/bundle.py"], CODE_ONLY),
    ("Pin uvicorn 0.54", ["requirements/serving.txt"], CODE_ONLY),
    ("Strip the symbols", ["Dockerfile"], CODE_ONLY),
    ("Two doors", ["frontrow.py"], CODE_ONLY),
    ("Count views of the last week", ["features/derived.py"], CODE_ONLY),
    ("Train with 63 leaves", ["training/train.py"], TRAINED),
    ("Price per person: trained and served", ["training/features.py", "app/rows.py"], TRAINED),
    ("Train on fewer rows", ["training/tables.py", "README.md"], TRAINED),
    ("Say how to call it", ["docs/calling.md", "README.md", "CHANGELOG.md"], NOTHING),
    ("A page beside the code", ["app/README.md", "training/notes.md"], NOTHING),
    ("A picture", ["docs/overview.svg"], NOTHING),
    ("Test the drain", ["tests/batching/test_batching_drain.py"], NOTHING),
    ("Measure peers", ["benchmarks/peers/ray.py"], NOTHING),
    ("Judge sooner", ["release/judge.py"], NOTHING),
    ("More replicas", ["k8s/overlays/production/kustomization.yaml"], NOTHING),
    ("Pin the linter", ["requirements/development.txt", "pyproject.toml"], NOTHING),
    ("Cache the base image", [".github/workflows/test.yml", ".ci/run", "Makefile"], NOTHING),
    ("A file that only looks like ours", ["application/app.py", "Dockerfile.old", "frontrow.pyc"], NOTHING),
    ("", [], NOTHING),
    # Merges: what the branch brought in, and the flags of the merge's own message.
    ("Merge branch 'faster'\n\n* faster:\n  Answer sooner", ["app/routes.py"], CODE_ONLY),
    ("Merge branch 'docs'", ["docs/calling.md"], NOTHING),
    ("Merge branch 'deadline' [hotfix]", ["app/caller.py", "tests/app/test_caller.py"], HOTFIX),
    # Flags win over paths.
    ("Answer sooner [hotfix]", ["app/routes.py"], HOTFIX),
    ("[hotfix] Train with 63 leaves", ["training/train.py"], HOTFIX),
    ("[hotfix][release] Answer sooner", ["app/routes.py"], HOTFIX),
    ("Say how to call it [train]", ["docs/calling.md"], TRAINED),
    ("Answer sooner [train]", ["app/routes.py"], TRAINED),
    ("Price per person [train] [release]", ["features/derived.py"], TRAINED),
    ("Say how to call it [release]", ["docs/calling.md"], CODE_ONLY),
    ("Train with 63 leaves [release]", ["training/train.py"], CODE_ONLY),
    ("Answer sooner [skip release]", ["app/routes.py"], NOTHING),
    ("Train with 63 leaves [skip release]", ["training/train.py"], NOTHING),
    ("Train with 63 leaves [train] [skip release]", ["training/train.py"], TRAINED_ONLY),
    ("Take version 12 [model=12]", ["docs/calling.md"], PINNED),
    ("[release] [model=12] Take version 12", ["app/routes.py"], PINNED),
    ("[model=12] [model=12] Said twice", [], PINNED),
    # How flags are written.
    ("Answer sooner [HotFix]", ["app/routes.py"], HOTFIX),
    ("Answer sooner [ hotfix ].", ["app/routes.py"], HOTFIX),
    ("Take version 12 [ model = 12 ]", [], PINNED),
    ("Answer sooner\n\nIt hurt.\n\n[hotfix]", ["app/routes.py"], HOTFIX),
    ("Say how to call it\n\n[train] [skip release]\n", ["docs/calling.md"], TRAINED_ONLY),
    # What only looks like a flag.
    ("Explain flags\n\nWrite [hotfix] and no model is trained.", ["docs/release.md"], NOTHING),
    ('Revert "Answer sooner [hotfix]"\n\nThis reverts commit 1234.', ["app/routes.py"], CODE_ONLY),
    ("Explain `[train]`", ["docs/release.md"], NOTHING),
    ("Take list[int] and dict[str, int]", ["app/rows.py"], CODE_ONLY),
    ("[SHOP-12] Answer sooner [#34]", ["app/routes.py"], CODE_ONLY),
    ("Answer sooner [skip ci]", ["app/routes.py"], CODE_ONLY),
]

REFUSED = [
    ("[hotfix] [train] Both at once", "[hotfix] and [train] contradict"),
    ("[hotfix] [model=6] An older model", "[hotfix] and [model=6] contradict"),
    ("[train] [model=6] Train, but take 6", "[train] and [model=6] contradict"),
    ("[skip release] [release]", "[skip release] and [release] contradict"),
    ("[skip release] [hotfix]", "[skip release] and [hotfix] contradict"),
    ("[skip release] [model=6]", "[skip release] and [model=6] contradict"),
    ("[model=6] [model=7]", "[model=6] and [model=7] contradict"),
    ("Answer sooner\n\n[hotfix]\n[train]", "[hotfix] and [train] contradict"),
    ("[hotfx] Answer sooner", "[hotfx] is no flag"),
    ("[wip] Answer sooner", "[wip] is no flag"),
    ("[train=now] Answer sooner", "[train=now] is no flag"),
    ("[] Answer sooner", "[] is no flag"),
    ("[model] Take a model", "[model] names no model version"),
    ("[model=] Take a model", "[model=] names no model version"),
    ("[model=0] Take a model", "[model=0] names no model version"),
    ("[model=latest] Take a model", "[model=latest] names no model version"),
    ("[model=\u0667] Take a model", "names no model version"),
]


def decided(plan: Plan) -> tuple[bool, bool, str, str | None, str | None]:
    return plan.train, plan.release, plan.canary, plan.control, plan.treatment


@pytest.mark.parametrize(("message", "paths", "expected"), PUSHES, ids=lambda value: repr(value)[:60])
def test_a_push_means(message: str, paths: list[str], expected: tuple[bool, bool, str, str | None, str | None]) -> None:
    plan = plan_push(message, paths, code=CODE, live=LIVE, name="activity-ranker")

    assert decided(plan) == expected
    assert plan.code == CODE
    assert plan.reasons
    assert all(plan.reasons)


@pytest.mark.parametrize(("message", "because"), REFUSED)
def test_flags_that_contradict_or_are_unknown_are_refused(message: str, because: str) -> None:
    with pytest.raises(FlagError) as refusal:
        plan_push(message, ["app/routes.py"], code=CODE, live=LIVE, name="activity-ranker")

    assert because in str(refusal.value)


def test_an_unknown_flag_is_told_which_flags_there_are() -> None:
    with pytest.raises(FlagError) as refusal:
        plan_push("[hot fix]", [], code=CODE, live=LIVE, name="activity-ranker")

    assert ALLOWED in str(refusal.value)


def test_the_table_is_as_long_as_was_promised() -> None:
    assert len(PUSHES) + len(REFUSED) >= 30
    assert len({(message, tuple(paths)) for message, paths, _ in PUSHES}) == len(PUSHES)


def test_the_first_release_takes_champion_and_challenger() -> None:
    plan = plan_push("Answer", ["app/routes.py"], code=CODE, live=None, name="activity-ranker")

    assert decided(plan) == (False, True, "full", CHAMPION, CHALLENGER)


def test_a_hotfix_of_nothing_is_refused() -> None:
    with pytest.raises(NothingLive):
        plan_push("[hotfix] Answer", ["app/routes.py"], code=CODE, live=None, name="activity-ranker")


def test_a_hotfix_keeps_the_models_that_are_live_whatever_the_registry_says_now() -> None:
    plan = plan_push("[hotfix] Answer", ["training/train.py"], code=CODE, live=LIVE, name="another-name")

    assert (plan.control, plan.treatment) == (LIVE_7, LIVE_8)


def test_new_models_keep_the_live_code() -> None:
    treatment = plan_models(None, 9, live=LIVE, name="activity-ranker")
    promoted = plan_models(8, 9, live=LIVE, name="activity-ranker")

    assert (treatment.code, *decided(treatment)) == (
        LIVE.code,
        False,
        True,
        "full",
        LIVE_7,
        "models:/activity-ranker/9",
    )
    assert (promoted.control, promoted.treatment) == (LIVE_8, "models:/activity-ranker/9")


def test_new_models_need_a_code_that_is_live() -> None:
    with pytest.raises(NothingLive):
        plan_models(8, None, live=None, name="activity-ranker")


def test_the_reasons_name_the_paths() -> None:
    plan = plan_push(
        "Two", ["training/b.py", "training/a.py", "app/x.py"], code=CODE, live=LIVE, name="activity-ranker"
    )

    assert plan.reasons[0].startswith("training/a.py and 1 more: ")
    assert plan.reasons[1].startswith("app/x.py: ")


def test_a_change_of_features_reminds_of_training() -> None:
    plan = plan_push("Views", ["features/derived.py"], code=CODE, live=LIVE, name="activity-ranker")

    assert any("[train]" in reason for reason in plan.reasons)
