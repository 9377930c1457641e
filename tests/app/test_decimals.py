"""A double is written with the digits of `msgspec`, to the last byte."""

import os
from itertools import product

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from app.decimals import LONGEST, put_double

DOUBLES = int(os.environ.get("DOUBLES", "300000"))  # of random bits
AROUND = range(-2, 3)  # so many steps from what is looked at to its neighbours


@njit
def write(values, out, ends):  # type: ignore[no-untyped-def]
    used = np.uint64(0)
    for number in range(values.size):
        used = put_double(out, used, values[number])
        ends[number] = used


def written(values: NDArray[np.float64]) -> list[bytes]:
    out, ends = np.zeros((len(values) + 1) * LONGEST, np.uint8), np.zeros(len(values), np.uint64)
    write(values, out, ends)
    return [out[start:end].tobytes() for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


written(np.zeros(1))  # a compiler would be the first example's time


def check(values: NDArray[np.float64]) -> None:
    texts = written(values)
    assert b"[%b]" % b",".join(texts) == msgspec.json.encode(values.tolist())
    assert max(map(len, texts)) <= LONGEST


def neighbours(numbers: list[float]) -> NDArray[np.float64]:
    bits = np.array(numbers, np.float64).view(np.int64)
    near = np.concatenate([bits + step for step in AROUND]).view(np.float64)
    return np.concatenate([near, -near])


@given(st.floats())
def test_any_double(value: float) -> None:
    check(np.array([value]))


def test_doubles_of_random_bits() -> None:
    random = np.random.default_rng(3)
    for _ in range(0, DOUBLES, 100_000):
        check(random.integers(-(2**63), 2**63, 100_000).view(np.float64))


def test_doubles_of_the_size_of_scores() -> None:
    random = np.random.default_rng(4)
    check(np.concatenate([random.normal(scale=10.0**power, size=5_000) for power in range(-8, 19)]))


def test_powers_of_two_and_ten_and_their_neighbours() -> None:
    check(neighbours([2.0**power for power in range(-1_074, 1_024)]))
    check(neighbours([float(f"1e{power}") for power in range(-323, 309)]))


def test_decimals_of_few_digits() -> None:
    check(np.array([float(f"{digits}e{power}") for digits, power in product(range(1_000), range(-30, 30))]))


def test_integers_up_to_the_last_exact_one() -> None:
    random = np.random.default_rng(5)
    check(np.concatenate([random.integers(0, 2**bits, 2_000).astype(np.float64) for bits in range(1, 55)]))


def test_what_has_no_digits() -> None:
    assert written(np.array([0.0, -0.0, np.nan, np.inf, -np.inf])) == [b"0.0", b"-0.0", b"null", b"null", b"null"]
