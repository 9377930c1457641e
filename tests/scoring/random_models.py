"""Random model texts: shapes and thresholds that training never gives, as LightGBM would write them."""

import random
import struct
from collections.abc import Sequence

TINY = 5e-324
THRESHOLDS = (
    0.0, -0.0, TINY, -TINY, 1e-310, -1e-310, 1e-36, -1e-36, 1.0000000180025095e-35, -1.0000000180025095e-35,
    1.1e-35, -1.1e-35, 1e300, -1e300, 1.7976931348623157e308, -1.7976931348623157e308, float("inf"), 0.5, -1.0, 3.0,
)  # fmt: skip


def model_text(
    seed: int,
    *,
    trees: int,
    leaves: int,
    features: int,
    categories: int = 40,
    thresholds: int = 60,
    forest: bool = False,
) -> bytes:
    """A model whose trees have 1 to `leaves` leaves. Every third feature is categorical with up to `categories`."""
    rng = random.Random(seed)
    pools = [_pool(rng, thresholds) for _ in range(features)]
    blocks = [_tree_text(rng, index, rng.randint(1, leaves), pools, categories) for index in range(trees)]
    names = " ".join(f"f{index}" for index in range(features))
    infos = " ".join("0:1:2" if _categorical(index) else "[-3:3]" for index in range(features))
    average = "average_output\n" if forest else ""
    objective = rng.choice(("lambdarank", "rank_xendcg", "regression", "huber"))
    return (
        f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx={features - 1}\n"
        f"objective={objective}\n{average}feature_names={names}\nfeature_infos={infos}\n"
        f"tree_sizes={' '.join(str(len(block)) for block in blocks)}\n\n{''.join(blocks)}end of trees\n\n"
        "feature_importances:\n\nparameters:\n[num_leaves: 31]\n\nend of parameters\n\npandas_categorical:null\n"
    ).encode()


def _categorical(feature: int) -> bool:
    return feature % 3 == 2


def _pool(rng: random.Random, size: int) -> list[float]:
    return [rng.gauss(0, 1) if rng.random() < 0.8 else _odd_number(rng) for _ in range(size)]


def _odd_number(rng: random.Random) -> float:
    if rng.random() < 0.7:
        return rng.choice(THRESHOLDS)
    (number,) = struct.unpack("<d", struct.pack("<Q", rng.getrandbits(64)))
    return number if abs(number) < float("inf") else 1.0


def _tree_text(rng: random.Random, index: int, leaves: int, pools: Sequence[Sequence[float]], categories: int) -> str:
    left, right, parent_of = [], [], {0: None}
    for split in range(leaves - 1):  # a split takes a leaf's place: left keeps the leaf's number, right is a new leaf
        # Sometimes always the last leaf, which makes a chain.
        leaf = split if index % 5 == 4 else rng.randrange(split + 1)
        place = parent_of[leaf]
        if place is not None:
            (left if place[1] else right)[place[0]] = split
        left.append(~leaf)
        right.append(~(split + 1))
        parent_of[leaf], parent_of[split + 1] = (split, True), (split, False)
    chosen = [rng.randrange(len(pools)) for _ in range(leaves - 1)]
    splits = [_split(rng, feature, pools[feature], categories) for feature in chosen]
    bitsets = [bitset for _, _, bitset in splits if bitset]
    numbers = iter(range(len(bitsets)))
    thresholds = [str(next(numbers)) if bitset else format(threshold, ".17g") for threshold, _, bitset in splits]
    values = [rng.gauss(0, 1) * 10.0 ** rng.randint(-5, 2) for _ in range(leaves)]
    categorical = ""
    if bitsets:
        ends = [0]
        for bitset in bitsets:
            ends.append(ends[-1] + len(bitset))
        words = [word for bitset in bitsets for word in bitset]
        categorical = f"cat_boundaries={_spaced(ends)}\ncat_threshold={_spaced(words)}\n"
    ones, leaf_ones = _spaced([1] * (leaves - 1)), _spaced([1] * leaves)
    return (
        f"Tree={index}\nnum_leaves={leaves}\nnum_cat={len(bitsets)}\nsplit_feature={_spaced(chosen)}\n"
        f"split_gain={ones}\nthreshold={' '.join(thresholds)}\n"
        f"decision_type={_spaced([decision for _, decision, _ in splits])}\nleft_child={_spaced(left)}\n"
        f"right_child={_spaced(right)}\nleaf_value={' '.join(format(value, '.17g') for value in values)}\n"
        f"leaf_weight={leaf_ones}\nleaf_count={leaf_ones}\ninternal_value={ones}\ninternal_weight={ones}\n"
        f"internal_count={ones}\n{categorical}is_linear=0\nshrinkage=0.1\n\n\n"
    )


def _split(rng: random.Random, feature: int, pool: Sequence[float], categories: int) -> tuple[float, int, list[int]]:
    if not _categorical(feature):
        return rng.choice(pool), rng.choice((0, 2, 4, 6, 8, 10)), []
    words = [rng.getrandbits(32) & rng.getrandbits(32) for _ in range(rng.randint(1, 1 + (categories - 1) // 32))]
    return 0.0, rng.choice((1, 5, 9)), words


def _spaced(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
