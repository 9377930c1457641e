import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import model_text
from scoring_models import data, oracle, train

from scoring import NotCompilableError, ReferenceEngine, RowsError, VerificationError, load_engine, parse_model_text
from scoring.compiled import CompiledEngine
from scoring.kernels import score_rows
from scoring.tables import build_tables
from scoring.verification import adversarial_rows, verify

# `make test` takes the small numbers; a release run sets SCORING_MODELS=300 for 1.5 million rows.
MODELS = int(os.environ.get("SCORING_MODELS", "80"))
ROWS = 5_000 if MODELS > 200 else 1_000
MIB = 2**20


def compiled(text: bytes) -> CompiledEngine:
    model = parse_model_text(text)
    return CompiledEngine(model, build_tables(model, budget_bytes=64 * MIB))


def check(text: bytes, rows: int = ROWS) -> None:
    """Equal scores on adversarial rows, for every number of rows that a block may be filled with."""
    engine, reference = compiled(text), ReferenceEngine(text)
    values = adversarial_rows(engine.model, rows)
    verify(engine, reference, values)
    for count in (1, 7, 9, 33):
        verify(engine, reference, values[:count].copy())


@pytest.mark.timeout(1_200)
@settings(max_examples=MODELS, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    shape=st.fixed_dictionaries(
        {
            "trees": st.integers(1, 30),
            "leaves": st.sampled_from([1, 2, 3, 8, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200]),
            "features": st.integers(3, 12),
            "categories": st.sampled_from([1, 31, 33, 70, 3_000]),
            "thresholds": st.sampled_from([1, 3, 60, 700]),
            "forest": st.booleans(),
        }
    ),
)
def test_random_models_score_as_lightgbm_scores_them_to_the_last_bit(seed: int, shape: dict[str, Any]) -> None:
    check(model_text(seed, **shape))


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "lambdarank"},
        {"objective": "rank_xendcg", "num_leaves": 40},
        {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "objective": "regression"},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 200, "min_data_in_leaf": 1},
        {"min_data_in_leaf": 350},
        {"max_depth": 2},
        {"objective": "quantile", "alpha": 0.7},
    ],
    ids=str,
)
def test_trained_models_score_as_lightgbm_scores_them_to_the_last_bit(parameters: dict[str, object]) -> None:
    text = train(trees=20, **parameters)
    check(text, rows=2_000)
    rows = data(8)[0]
    assert compiled(text).score(rows).tobytes() == lightgbm.Booster(model_str=text.decode()).predict(rows).tobytes()


def test_a_model_of_fewer_iterations_and_one_trained_on_from_another_score_exactly() -> None:
    x, y = data(1)
    quiet = {"verbosity": -1, "num_threads": 1, "objective": "regression"}
    first = lightgbm.train(quiet | {"zero_as_missing": True}, lightgbm.Dataset(x, y, free_raw_data=False), 10)
    second = lightgbm.train(quiet, lightgbm.Dataset(x, y, free_raw_data=False), 10, init_model=first)
    check(second.model_to_string().encode())
    check(second.model_to_string(num_iteration=13).encode())


def test_engine_and_reference_agree_with_a_walk_in_plain_python() -> None:
    text = model_text(5, trees=12, leaves=60, features=6)
    engine = compiled(text)
    rows = adversarial_rows(engine.model, 200)
    assert engine.score(rows).tolist() == oracle(engine.model, rows)


def test_scores_do_not_depend_on_the_neighbours_of_a_row() -> None:
    engine = compiled(model_text(6, trees=30, leaves=64, features=9))
    rows = adversarial_rows(engine.model, 100)
    alone = [engine.score(rows[index : index + 1].copy())[0] for index in range(100)]
    assert engine.score(rows).tolist() == alone


def test_threads_share_one_engine() -> None:
    engine = compiled(model_text(7, trees=30, leaves=64, features=9))
    rows = adversarial_rows(engine.model, 500)
    expected = engine.score(rows).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert {scores.tobytes() for scores in pool.map(lambda _: engine.score(rows), range(60))} == {expected}


def test_rows_of_another_form_are_refused_and_no_rows_have_no_scores() -> None:
    engine = compiled(train())
    assert engine.score(np.empty((0, 6))).shape == (0,)
    with pytest.raises(RowsError, match=r"\(3, 7\) and the model has 6 features"):
        engine.score(np.zeros((3, 7)))


def test_read_only_and_unaligned_rows_are_scored_without_compiling_anew() -> None:
    engine = compiled(train())
    rows = data(4)[0]
    expected = engine.score(rows).tobytes()
    machine_codes = len(score_rows.signatures)
    unaligned = np.frombuffer(b"x" + rows.tobytes(), dtype=np.float64, offset=1).reshape(rows.shape)
    assert not unaligned.flags.aligned
    assert not unaligned.flags.writeable
    assert engine.score(unaligned).tobytes() == expected
    assert len(score_rows.signatures) == machine_codes


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_kernel_reads_outside_of_an_array(tmp_path: Path) -> None:
    program = """
import numpy as np
from random_models import model_text
from scoring import ReferenceEngine, parse_model_text
from scoring.catalog import load_catalog
from scoring.compiled import CompiledEngine
from scoring.kernels import score_rows
from scoring.tables import build_tables
from scoring.verification import adversarial_rows, verify
for seed, leaves in enumerate((1, 32, 64, 100)):
    model = parse_model_text(model_text(seed, trees=9, leaves=leaves, features=7, thresholds=400, categories=90))
    engine = CompiledEngine(model, build_tables(model, budget_bytes=2**26))
    rows = adversarial_rows(model, 500)
    verify(engine, ReferenceEngine(model), rows)
    catalog = load_catalog(engine, rows, np.arange(7) % 2 == 0)
    catalog.score(rows[:2].copy(), np.array([0, 5, 9]), np.array([0, 499, 3, -1, 5, 6, 7, 8, -2]), rows[:2].copy())
print("sound")
"""
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert child.stdout.strip() == "sound", child.stderr


def sound_in_a_child(folder: Path, before: str = "") -> list[str]:
    """Run a kernel with `NUMBA_CACHE_DIR` there: its answer, and how often its machine code was found and was not."""
    program = (
        f"{before}\nimport numpy as np; from scoring.kernels import offsets_are_sound as sound;"
        "answer = sound(np.array([0, 3]), 3); hits, misses = sound.stats.cache_hits, sound.stats.cache_misses;"
        "print(answer, sum(hits.values()), sum(misses.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=100, check=True
    )
    return child.stdout.decode().split()


def test_machine_code_is_kept_in_a_folder_of_the_processor_and_found_there(tmp_path: Path) -> None:
    assert sound_in_a_child(tmp_path) == ["True", "0", "1"]
    (processor,) = tmp_path.iterdir()
    assert sound_in_a_child(tmp_path) == ["True", "1", "0"]
    processor.rename(tmp_path / "another")
    assert sound_in_a_child(tmp_path) == ["True", "0", "1"]


def test_a_folder_that_was_filled_need_not_be_writable(tmp_path: Path) -> None:
    no_writing = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert sound_in_a_child(tmp_path) == ["True", "0", "1"]
    assert sound_in_a_child(tmp_path, no_writing) == ["True", "1", "0"]
    for file in tmp_path.rglob("*.nbi"):
        file.unlink()
    assert sound_in_a_child(tmp_path, no_writing) == ["True", "0", "1"]


def test_kernels_compile_also_where_their_machine_code_can_be_kept_nowhere() -> None:
    program = (
        "import numpy as np; from scoring.kernels import offsets_are_sound as sound;"
        "print(sound(np.array([0, 3]), 3), type(sound._cache).__name__)"
    )
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=100, check=True
    )
    assert child.stdout.decode().split() == ["True", "NullCache"]


# ---- which engine serves ----


def test_the_compiled_engine_serves_after_it_has_proved_equal() -> None:
    engine = load_engine(parse_model_text(train()), golden_rows=data(2)[0])
    assert (engine.name, engine.trees, engine.features) == ("compiled", 3, 6)
    assert engine.reason == "2400 rows scored as the reference engine scores them"
    assert engine.bytes_used > 0


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"objective": "poisson"}, "the objective poisson transforms the sum"),
        ({"objective": "regression", "reg_sqrt": True}, "the objective regression sqrt transforms the sum"),
    ],
)
def test_a_model_whose_sum_is_transformed_has_the_reference_engine_and_the_reason(
    parameters: dict[str, object], reason: str
) -> None:
    model = parse_model_text(train(**parameters))
    engine = load_engine(model)
    assert engine.name == "reference"
    assert reason in engine.reason
    with pytest.raises(NotCompilableError, match=reason):
        load_engine(model, "compiled")


def test_a_budget_that_does_not_hold_the_tables_leaves_the_reference_engine() -> None:
    engine = load_engine(parse_model_text(train()), budget_bytes=1_000)
    assert engine.name == "reference"
    assert "1000 are allowed" in engine.reason


def test_a_feature_of_two_kinds_leaves_the_reference_engine() -> None:
    numbers = model_text(1, trees=1, leaves=30, features=4).replace(b"split_feature=", b"split_feature= ", 1)
    line = next(line for line in numbers.split(b"\n") if line.startswith(b"split_feature"))
    mixed = numbers.replace(line, b"split_feature=" + b" ".join([b"2"] * len(line.split()[1:])))
    size = mixed.index(b"end of trees") - mixed.index(b"Tree=0")
    start, end = mixed.index(b"tree_sizes="), mixed.index(b"\n\n")
    model = parse_model_text(mixed[:start] + b"tree_sizes=%d" % size + mixed[end:])
    assert "categorical in some splits and numerical in others" in load_engine(model).reason


def test_an_engine_that_differs_in_one_bit_of_one_row_does_not_pass() -> None:
    class Wrong(ReferenceEngine):
        def score(self, rows: np.ndarray) -> np.ndarray:
            scores = super().score(rows)
            scores[17] = np.nextafter(scores[17], np.inf)
            return scores

    text = train()
    with pytest.raises(VerificationError, match="1 of 400 rows differ; row 17"):
        verify(Wrong(text), ReferenceEngine(text), data(3)[0])


def test_asking_for_the_reference_engine_does_not_import_numba() -> None:
    program = (
        "import sys; from scoring import *; m = parse_model_text(sys.stdin.buffer.read());"
        "print(load_engine(m, 'reference').name, 'numba' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", program], input=train(), capture_output=True, timeout=60, check=True)
    assert child.stdout.decode().split() == ["reference", "False"]
