"""An order is JSON as `msgspec` makes it, byte for byte, however its ids came."""

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import standings
from app.id_lines import END, IdLines, as_text
from app.standings import Standings, Weaver

WEAVER = Weaver()  # a compiler would be the first example's time; and each order finds what the last one left
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1, max_size=40)


def lines(ids: list[str]) -> IdLines:
    return IdLines(as_text("\n".join(ids) + END), len(ids))


def check(ids: list[str], places: list[int], scores: list[float]) -> None:
    order, values = np.array(places, np.int64), np.array(scores, np.float64)
    plain, any_ids = Standings(lines(ids), order, values), Standings(ids, order, values)
    expected = [{"id": ids[at], "score": scores[at], "position": position} for position, at in enumerate(places, 1)]
    assert WEAVER.json(plain) == WEAVER.json(any_ids) == msgspec.json.encode(expected)
    assert [(one.id, one.position) for one in plain] == [(one.id, one.position) for one in any_ids]
    assert [one.score for one in plain] == pytest.approx([scores[at] for at in places], rel=0, abs=0, nan_ok=True)
    assert len(plain) == len(places)


@given(st.lists(PLAIN, min_size=1, unique=True, max_size=30), st.randoms(use_true_random=False), st.data())
def test_the_json_is_that_of_msgspec(ids: list[str], draw: random.Random, data: st.DataObject) -> None:
    places = draw.sample(range(len(ids)), draw.randint(0, len(ids)))
    scores = data.draw(st.lists(st.floats(), min_size=len(ids), max_size=len(ids)))
    check(ids, places, scores)


def test_positions_have_as_many_digits_as_they_need() -> None:
    ids = [f"activity {n}" for n in range(10_011)]
    check(ids, list(range(10_011))[::-1], [1 / (n + 1) for n in range(10_011)])


def test_the_longest_ids_and_numbers_find_room() -> None:
    ids = [f"{n:03}" + "x" * 125 for n in range(300)]
    check(ids, list(range(300)), [-math.pi * 1e-300] * 300)


def test_nobody_is_an_empty_list() -> None:
    check(["A"], [], [1.0])


def test_one_kernel_serves_every_order() -> None:
    """So no answer waits for a compiler."""
    check(["A", "B"], [1, 0], [2.0, 1.0])
    check(["A"], [], [1.0])
    assert len(standings.weave.signatures) == 1
