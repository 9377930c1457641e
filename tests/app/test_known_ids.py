"""Ids looked up many at a time are found where a dict finds them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import known_ids
from app.known_ids import KnownIds

# Few letters, so that ids share their beginnings; and whatever else JSON can put into a string.
texts = st.text("ab\0é", max_size=20) | st.text(max_size=20) | st.text("\n\r\ud800a", max_size=3)


def expect_as_a_dict(known: list[str], asked: list[str]) -> None:
    places = {one: place for place, one in enumerate(known)}
    found, strangers = KnownIds(places).find(asked)
    expected = [places.get(one, len(known)) for one in asked]
    assert found.tolist() == expected
    assert strangers == expected.count(len(known))


@settings(max_examples=1_000, deadline=None)
@given(known=st.lists(texts, unique=True, max_size=40), others=st.lists(texts, max_size=20), data=st.data())
def test_every_id_is_found_where_a_dict_finds_it(known: list[str], others: list[str], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(known), max_size=20)) if known else []
    expect_as_a_dict(known, data.draw(st.permutations(some + others)))


def test_ids_of_every_length_are_told_from_their_beginnings() -> None:
    known = ["x" * length for length in range(130)]
    expect_as_a_dict(known, [*known, *("x" * length + "y" for length in range(130))])


def test_an_id_is_no_two_lines_of_the_known_ones() -> None:
    expect_as_a_dict(["one", "two"], ["one\ntwo", "one"])
    expect_as_a_dict(["one\ntwo", "three"], ["one", "two", "one\ntwo"])


def test_thousands_are_found_among_thousands() -> None:
    expect_as_a_dict([f"activity {number}" for number in range(20_000)], [f"activity {n}" for n in range(0, 40_000, 7)])


def test_one_kernel_serves_every_question() -> None:
    """So no request waits for a compiler."""
    expect_as_a_dict([], [])
    expect_as_a_dict(["a"], ["b", "a"])
    assert len(known_ids.find_lines.signatures) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_read_outside_of_the_arrays(tmp_path: Path) -> None:
    """numba looks at every index."""
    here = Path(__file__).parent
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (here.parent.parent, here)))
    tests = [test_thousands_are_found_among_thousands, test_ids_of_every_length_are_told_from_their_beginnings]
    checks = "; ".join(f"test_known_ids.{test.__name__}()" for test in tests)
    command = [sys.executable, "-c", f"import test_known_ids; {checks}"]
    subprocess.run(command, env=os.environ | environment, check=True, timeout=280)
