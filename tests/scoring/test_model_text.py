import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from scoring_models import data, oracle, train
from text_surgery import get_field, mutations, resize, set_field

from scoring import ModelTextError, ReferenceEngine, parse_model_text

CHILD = Path(__file__).with_name("mutation_child.py")
FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "objective": "regression"}


@pytest.fixture(scope="module")
def text() -> bytes:
    return train()


def refusal(text: bytes) -> ModelTextError:
    with pytest.raises(ModelTextError) as caught:
        parse_model_text(text)
    return caught.value


def test_a_model_text_says_what_lightgbm_says_of_it(text: bytes) -> None:
    model = parse_model_text(text)
    booster = lightgbm.Booster(model_str=text.decode())
    assert list(model.feature_names) == booster.feature_name()
    assert len(model.trees) == booster.num_trees()
    dumped = booster.trees_to_dataframe()
    leaves = dumped[dumped.left_child.isna()]
    assert sorted(leaves.value) == sorted(float(leaf) for tree in model.trees for leaf in tree.leaf_value)
    assert model.text is text
    assert (model.objective, model.average_output, model.features) == ("lambdarank", False, 6)
    assert model.parameters["num_leaves"] == "8"


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "rank_xendcg"},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "poisson"},
        {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0},
        FOREST,
        {"monotone_constraints": [1, 0, 0, 0, 0, 0], "monotone_constraints_method": "advanced"},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 200, "min_data_in_leaf": 1},
        {"min_data_in_leaf": 350},
        {"linear_tree": False, "extra_trees": True, "path_smooth": 1.0},
        {"use_quantized_grad": True},
    ],
    ids=str,
)
def test_every_kind_of_model_that_ranks_is_read_also_after_lightgbm_saved_it_again(
    parameters: dict[str, object],
) -> None:
    text = train(**parameters)
    again = lightgbm.Booster(model_str=text.decode()).model_to_string().encode()
    assert len(parse_model_text(text).trees) == len(parse_model_text(again).trees)


def test_a_split_of_is_it_missing_alone_may_have_the_threshold_infinity() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    x[::3, 0] = np.nan
    labels = np.isnan(x[:, 0]).astype(np.float64)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_leaves": 3}, lightgbm.Dataset(x, labels), 1
    )
    model = parse_model_text(booster.model_to_string().encode())
    assert np.inf in model.trees[0].threshold
    assert ReferenceEngine(model).score(x).tolist() == oracle(model, x)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("parameters", [{}, FOREST | {"zero_as_missing": True}], ids=["lambdarank", "forest"])
def test_damaged_texts_are_refused_by_name_or_score_as_they_say_and_never_harm_the_process(
    parameters: dict[str, object],
) -> None:
    text = train(seed=3, **parameters)
    damaged = [mutation for mutation in mutations(text, seed=1) if mutation != text]
    assert len(damaged) > 1_200
    child = subprocess.run(
        [sys.executable, CHILD],
        input=pickle.dumps((damaged, data(5)[0][:20].copy())),
        capture_output=True,
        timeout=280,
        check=False,
    )
    verdicts = child.stdout.decode()
    assert child.returncode == 0, (len(verdicts), damaged[len(verdicts)], child.stderr.decode()[-2_000:])
    assert len(verdicts) == len(damaged)
    wrong = [index for index, verdict in enumerate(verdicts) if verdict not in "rs"]
    assert not wrong, damaged[wrong[0]].decode("utf-8", "replace")
    counts = Counter(verdicts)
    assert counts["r"] > 800  # most damage shows
    assert counts["s"] > 100  # a changed digit of a leaf is another valid model


def test_every_truncated_text_is_refused(text: bytes) -> None:
    for end in range(0, len(text), 7):
        refusal(text[:end])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("leaf_value", "nan", "allowed is: real"),
        ("leaf_value", "1e+999", "a double can hold"),
        ("leaf_value", "1.7e+308", "can be infinite"),
        ("threshold", "-inf", "allowed is: real or inf"),
        ("split_feature", "6", "element 0 is 6, allowed is 0 to 5"),
        ("split_feature", "-5", "element 0 is -5, allowed is 0 to 5"),
        ("decision_type", "12", "allowed is 0, 2, 4, 6, 8, 10"),
        ("left_child", "0", "a later node or a leaf"),
        ("left_child", "-9", "a later node or a leaf"),
        ("num_leaves", "0", "allowed is 1 to 131072"),
        ("is_linear", "1", "no linear trees"),
    ],
)
def test_a_refusal_names_line_tree_and_field_and_what_is_allowed(
    text: bytes, name: str, value: str, words: str
) -> None:
    numbers = get_field(text, 1, name).split(b" ")
    edited = set_field(text, 1, name, b" ".join([value.encode(), *numbers[1:]]))
    if value == "1.7e+308":  # one such leaf is still finite, two are not
        edited = set_field(edited, 2, name, get_field(edited, 1, name))
    error = refusal(edited)
    assert words in str(error)
    assert (error.field, error.tree) == (name, 2 if value == "1.7e+308" else 1)
    assert error.line is not None
    assert edited.split(b"\n")[error.line - 1].startswith(name.encode())


def test_a_cycle_that_no_root_reaches_is_refused(text: bytes) -> None:
    # Nodes 1 and 2 are each other's child, every leaf has one parent, and the root's tree is closed.
    edited = set_field(text, 0, "left_child", b"-1 2 1 -2 -3 -4 -5")
    edited = set_field(edited, 0, "right_child", b"3 -6 -7 4 5 6 -8")
    assert refusal(edited).field == "left_child"


def test_a_leaf_with_two_parents_is_refused(text: bytes) -> None:
    edited = set_field(text, 0, "left_child", b"1 -1 -2 -3 -4 -5 -6")
    edited = set_field(edited, 0, "right_child", b"2 3 4 5 6 -8 -8")
    assert "leaf 7 is a child 2 times" in str(refusal(edited)) or "leaf 6 is a child 0 times" in str(refusal(edited))


def test_a_size_that_tree_sizes_does_not_tell_is_refused_before_anything_else(text: bytes) -> None:
    edited = text.replace(b"shrinkage=0.1", b"shrinkage=0.10", 1)
    assert "does not end after" in str(refusal(edited))
    assert len(parse_model_text(resize(edited)).trees) == 3


def test_several_scores_a_row_and_linear_trees_are_refused_as_such() -> None:
    x, y = data(0)
    quiet = {"verbosity": -1, "num_threads": 1}
    classes = lightgbm.train({"objective": "multiclass", "num_class": 5} | quiet, lightgbm.Dataset(x, y), 1)
    assert refusal(classes.model_to_string().encode()).field == "num_class"
    linear = {"objective": "regression", "linear_tree": True} | quiet
    leaves = lightgbm.train(linear, lightgbm.Dataset(x, y, params={"linear_tree": True}), 2)
    assert refusal(leaves.model_to_string().encode()).tree is not None


def test_more_than_256_mib_are_refused_unread() -> None:
    assert "268435457 bytes" in str(refusal(bytes(256 * 2**20 + 1)))
