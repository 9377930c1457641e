import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import model_text

from scoring import ReferenceEngine, RowsError, kernels, parse_model_text
from scoring.catalog import Catalog, MaskCatalog, RowCatalog, load_catalog
from scoring.compiled import CompiledEngine
from scoring.tables import build_tables
from scoring.verification import adversarial_rows

FEATURES = 9
NONE_OF_THEIR_OWN = np.empty((0, FEATURES))


def engine_of(seed: int, leaves: int, trees: int = 20) -> CompiledEngine:
    model = parse_model_text(model_text(seed, trees=trees, leaves=leaves, features=FEATURES, categories=70))
    return CompiledEngine(model, build_tables(model, budget_bytes=2**26))


def whole_rows(
    activities: np.ndarray, context: np.ndarray, contexts: np.ndarray, requests: list[list[int]], own: np.ndarray
) -> np.ndarray:
    rows = [
        np.where(context, values, activities[item]) if item >= 0 else own[~item]
        for values, items in zip(contexts, requests, strict=True)
        for item in items
    ]
    return np.array(rows).reshape(-1, FEATURES)


def score(
    catalog: Catalog,
    contexts: np.ndarray,
    requests: list[list[int]],
    own: np.ndarray,
    pairs: np.ndarray | None = None,
) -> np.ndarray:
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in requests], dtype=np.int64)]).astype(np.int64)
    items = np.array([item for items in requests for item in items], dtype=np.int64)
    return catalog.score(contexts, offsets, items, own, pairs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    leaves=st.sampled_from([1, 2, 8, 31, 32, 33, 63, 64, 65, 120]),
    sides=st.lists(st.sampled_from(["context", "pair", "activity"]), min_size=FEATURES, max_size=FEATURES),
    requests=st.lists(st.lists(st.integers(-12, 299), max_size=30), max_size=5),
)
def test_candidates_of_several_requests_score_as_their_whole_rows_do(
    seed: int, leaves: int, sides: list[str], requests: list[list[int]]
) -> None:
    engine = engine_of(seed, leaves)
    values = adversarial_rows(engine.model, 600)
    activities, own, contexts = values[:300].copy(), values[300:312].copy(), values[320 : 320 + len(requests)].copy()
    context, pair = np.array(sides) == "context", np.array(sides) == "pair"
    catalog = load_catalog(engine, activities, context, pair)
    rows = whole_rows(activities, context, contexts, requests, own)
    pairs = values[400 : 400 + len(rows), pair].copy()
    items = np.array([item for items in requests for item in items], dtype=np.int64)
    rows[:, pair] = np.where(items[:, None] >= 0, pairs, rows[:, pair])
    expected = ReferenceEngine(engine.model).score(rows)
    assert score(catalog, contexts, requests, own, pairs).tobytes() == expected.tobytes()


@pytest.mark.parametrize("leaves", [32, 63])
@pytest.mark.parametrize("pair", [np.arange(FEATURES) < 2, np.zeros(FEATURES, np.bool_)])
def test_requests_around_the_size_of_a_block_score_as_their_whole_rows_do(leaves: int, pair: np.ndarray) -> None:
    engine = engine_of(9, leaves, trees=2 * kernels.TREES + 1)
    values = adversarial_rows(engine.model, 600)
    random = np.random.default_rng(0)
    sizes = [1, kernels.ITEMS - 1, 0, kernels.ITEMS, kernels.ITEMS + 1, 3, 2 * kernels.ITEMS + kernels.ABREAST + 1]
    requests = [random.integers(-12, 300, size).tolist() for size in sizes]
    own, contexts = values[300:312].copy(), values[320 : 320 + len(sizes)].copy()
    context = np.arange(FEATURES) > 5
    rows = whole_rows(values[:300], context, contexts, requests, own)
    pairs = values[np.arange(len(rows)) + 30][:, pair]
    known = np.concatenate(requests) >= 0
    rows[np.ix_(known, pair)] = pairs[known]
    catalog = load_catalog(engine, values[:300].copy(), context, pair)
    assert score(catalog, contexts, requests, own, pairs).tobytes() == engine.score(rows).tobytes()


def test_masks_take_four_bytes_a_tree_up_to_32_leaves_and_eight_up_to_64() -> None:
    for leaves, size in ((32, 4), (64, 8)):
        engine = engine_of(3, leaves, trees=40)
        catalog = load_catalog(engine, np.zeros((100, FEATURES)), np.zeros(FEATURES, np.bool_))
        assert isinstance(catalog, MaskCatalog)
        assert catalog.reason == f"masks of {size * 8} bits for 40 trees"
        assert catalog.bytes_used == 100 * 40 * size + (40 * size * 8 + 1) * 8


@pytest.mark.parametrize(
    ("leaves", "budget_bytes", "reason"),
    [(200, 2**30, "leaves and a mask holds 64"), (30, 1_000, "1000 are allowed")],
)
def test_activities_whose_masks_cannot_be_held_are_kept_as_rows_with_the_reason(
    leaves: int, budget_bytes: int, reason: str
) -> None:
    engine = engine_of(4, leaves)
    catalog = load_catalog(engine, np.zeros((50, FEATURES)), np.zeros(FEATURES, np.bool_), budget_bytes=budget_bytes)
    assert isinstance(catalog, RowCatalog)
    assert reason in catalog.reason
    assert catalog.activities == 50


def test_the_reference_engine_has_catalogs_too() -> None:
    engine = engine_of(5, 20)
    reference = ReferenceEngine(engine.model)
    rows = adversarial_rows(engine.model, 60)
    context = np.arange(FEATURES) < 4
    requests = [[0, 59, 3], [], [7, -1]]
    contexts, own = rows[:3].copy(), rows[5:6].copy()
    kept = load_catalog(reference, rows, context)
    assert "the reference engine has no masks" in kept.reason
    expected = score(load_catalog(engine, rows, context), contexts, requests, own)
    assert score(kept, contexts, requests, own).tobytes() == expected.tobytes()


def test_a_catalog_of_no_activities_scores_what_requests_bring() -> None:
    engine = engine_of(6, 20)
    rows = adversarial_rows(engine.model, 4)
    catalog = load_catalog(engine, NONE_OF_THEIR_OWN, np.zeros(FEATURES, np.bool_))
    assert score(catalog, rows[:1].copy(), [[-1, -4]], rows).tobytes() == engine.score(rows[[0, 3]]).tobytes()


@pytest.mark.parametrize("engine_name", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("offsets", "items", "words"),
    [
        ([0, 2], [0, 10], "items from 0 to 10; allowed is 0 to 9"),
        ([0, 1], [-1], "items from -1 to -1; allowed is 0 to 9"),
        ([0, 3], [1], "never falling, from 0 to the number of items"),
        ([0, 1, 1], [1], "3 offsets for 1 requests"),
        ([1, 1], [1], "never falling"),
    ],
)
def test_requests_out_of_range_are_refused_before_anything_is_scored(
    engine_name: str, offsets: list[int], items: list[int], words: str
) -> None:
    engine = engine_of(7, 20)
    chosen = engine if engine_name == "compiled" else ReferenceEngine(engine.model)
    catalog = load_catalog(chosen, np.zeros((10, FEATURES)), np.zeros(FEATURES, np.bool_))
    with pytest.raises(RowsError, match=words):
        catalog.score(np.zeros((1, FEATURES)), np.array(offsets), np.array(items), NONE_OF_THEIR_OWN)


@pytest.mark.parametrize("engine_name", ["compiled", "reference"])
def test_pairs_of_another_shape_are_refused_before_anything_is_scored(engine_name: str) -> None:
    engine = engine_of(8, 20)
    chosen = engine if engine_name == "compiled" else ReferenceEngine(engine.model)
    pair = np.arange(FEATURES) < 2
    catalog = load_catalog(chosen, np.zeros((10, FEATURES)), np.zeros(FEATURES, np.bool_), pair)
    for pairs in (None, np.zeros((2, 2)), np.zeros((1, 1)), np.zeros((1, 2), np.float32)):
        with pytest.raises(RowsError, match=r"allowed is float64 of \(1, 2\)"):
            score(catalog, np.zeros((1, FEATURES)), [[3]], NONE_OF_THEIR_OWN, pairs)
