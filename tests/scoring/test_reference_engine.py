import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest
from scoring_models import data, train

from scoring import ReferenceEngine, RowsError


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg", "regression", "poisson"])
def test_scores_are_those_of_booster_predict_to_the_last_bit(objective: str) -> None:
    text = train(objective=objective, trees=20)
    rows = data(9)[0]
    rows[0] = [np.inf, -np.inf, 5e-324, np.nan, 1e300, -0.5]
    expected = lightgbm.Booster(model_str=text.decode()).predict(rows)
    assert ReferenceEngine(text).score(rows).tobytes() == expected.tobytes()


def test_threads_share_one_engine() -> None:
    engine = ReferenceEngine(train(trees=20))
    rows = data(9)[0]
    expected = engine.score(rows).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert {scores.tobytes() for scores in pool.map(lambda _: engine.score(rows), range(50))} == {expected}


def test_no_rows_have_no_scores() -> None:
    assert ReferenceEngine(train()).score(np.empty((0, 6))).shape == (0,)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((2, 5)), r"\(2, 5\) and the model has 6 features"),
        (np.zeros(6), r"\(6,\) and the model has 6 features"),
        (np.zeros((2, 6), dtype=np.float32), "float32"),
        (np.zeros((6, 2)).T, "not C-contiguous"),
    ],
)
def test_rows_of_another_form_are_refused_with_both_numbers(rows: np.ndarray, words: str) -> None:
    with pytest.raises(RowsError, match=words):
        ReferenceEngine(train()).score(rows)


def test_scoring_imports_neither_pandas_nor_scikit_learn_nor_the_lightgbm_package() -> None:
    heavy = "{'pandas', 'sklearn', 'scipy', 'lightgbm', 'mlflow'}"
    program = f"import sys, scoring, scoring.reference as r; r._library(); print(sorted({heavy} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert child.stdout.strip() == "[]"
