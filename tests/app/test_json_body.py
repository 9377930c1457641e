"""The plain form of a JSON body: read straight into numbers, or left to the decoder that knows every form."""

import json
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_bodies import ACTIVITY, bodies, document, encoded, shape
from msgspec.structs import astuple

from app import json_scan
from app.columns import Columns
from app.errors import Problem
from app.json_body import JsonBody
from app.own_rows import lay
from app.rows import RowMaker
from app.schemas import Field, RankRequest, RequestShape, candidate_ids
from features import Catalog
from registry import Feature

BODIES = int(os.environ.get("DECODED_BODIES", "20000"))
SEED = int(os.environ.get("DECODED_BODIES_SEED", "1"))
SHAPE = shape()
BODY = JsonBody(SHAPE, one_by_one=False)
FEATURES = tuple(
    Feature(field.name, "activity", field.type, field.categories[:3] if field.type == "category" else None)
    for field in ACTIVITY
    if field.name != "id"  # which a catalog has in another meaning
)
KNOWN = pa.table({"id": ["A0", "A1", "A2"], "price": [1.0, None, 3.0], "kind": ["museum", "opera buffa", None]})
MAKER = RowMaker(FEATURES, SHAPE, Catalog(KNOWN))


def numbers_of(candidate: Any) -> list[float]:
    """What a candidate of the ordinary decoder brings, as a row of `Columns.values` has it."""
    given = [np.nan if one is None else one for one in astuple(candidate.features)]
    fields = SHAPE.activity
    return [
        float(field.categories.index(one)) if isinstance(one, str) else float(one)
        for field, one in zip(fields, given, strict=True)
    ]


def check(body: bytes) -> bool:
    """Whether the body is plain. If it is, it is the same request that `RequestShape` decodes."""
    plain = BODY.read(body)
    if plain is not None:
        check_same(plain, SHAPE.decode(body))
    return plain is not None


def check_same(plain: RankRequest, ordinary: RankRequest) -> None:
    columns = plain.candidates
    assert isinstance(columns, Columns)
    assert list(columns.ids) == candidate_ids(ordinary.candidates)
    bringing = [
        place for place, one in enumerate(ordinary.candidates) if not isinstance(one, str) and one.features is not None
    ]
    assert columns.bringing.tolist() == bringing
    expected = np.array([numbers_of(ordinary.candidates[place]) for place in bringing]).reshape(columns.values.shape)
    assert columns.values.tobytes() == expected.tobytes()
    for name in ("context", "top_k", "explain"):
        assert repr(getattr(plain, name)) == repr(getattr(ordinary, name))
    check_rows(plain, ordinary)


def check_rows(plain: RankRequest, ordinary: RankRequest) -> None:
    rows, expected = (MAKER.rows(None, one.candidates) for one in (plain, ordinary))
    assert rows.own.tobytes() == expected.own.tobytes()
    assert rows.items.tolist() == expected.items.tolist()
    assert (rows.unknown, rows.unseen) == (expected.unknown, expected.unseen)


def test_a_body_with_any_bytes_changed_is_the_same_request_in_both_ways_or_not_plain() -> None:
    plain = sum(map(check, bodies(BODIES, SEED)))
    assert BODIES // 20 < plain < BODIES // 2, plain


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*(field.name for field in ACTIVITY), "candidates", "context", "top_k", "days"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_stands_in_the_place_of_a_part_both_ways_agree(part: Any, draw: random.Random) -> None:
    body = document(draw)
    place = draw.choice(["id", "features", "candidate", "candidates", "context", "top_k", "a feature"])
    candidate = {"id": "A100", "features": {"price": 1.5}}
    if place == "a feature":
        candidate["features"] = {draw.choice(ACTIVITY).name: part}
    elif place in candidate:
        candidate[place] = part
    body["candidates"].append(part if place == "candidate" else candidate)
    if place in ("candidates", "context", "top_k"):
        body[place] = part
    check(encoded(body, draw))


def test_a_body_of_ids_alone_is_the_same_request_in_both_ways_unless_it_is_wrong() -> None:
    for body in (b'{"candidates":["A1"],"top_k":1.0,"explain":true}', b'{"context":null,"candidates":["A100","x y"]}'):
        assert check(body), body
    left = [
        b'{"candidates":["A1","A1"]}',
        b'{"candidates":["A1",""]}',
        b'{"candidates":["A1"],"days":1}',
        b'{"candidates":["A1"],"top_k":0}',
        b'{"candidates":[{"id":"A1"},"A1"]}',
        b'{"candidates":["A1"',
        b'{"candidates":["\xff"]}',
        b'{"candidates":["\xc3\xa9"]}',
        b'{"candidates":["\\u0041101"]}',
        b'{"candidates":[' + b",".join(b'"%d"' % n for n in range(SHAPE.max_candidates + 1)) + b"]}",
    ]
    for body in left:
        assert not check(body), body


def test_ids_that_stand_twice_are_found_among_any_others() -> None:
    draw = random.Random(5)
    many = JsonBody(RequestShape((), (), max_candidates=2_000), one_by_one=False)
    for _ in range(300):
        ids = draw.sample([f"{'x' * draw.randint(0, 12)}{n}" for n in range(2_000)], draw.randint(2, 2_000))
        assert many.read(json.dumps({"candidates": ids}).encode()) is not None
        ids[draw.randrange(1, len(ids))] = ids[0]
        assert many.read(json.dumps({"candidates": ids}).encode()) is None


def check_all_plain(texts: list[str], kind: str = "price") -> None:
    """Bodies of 40 numbers, each of which is plain and read as Python reads it."""
    column = [field.name for field in SHAPE.activity].index(kind)
    for start in range(0, len(texts), 40):
        piece = texts[start : start + 40]
        candidates = ",".join(f'{{"id":"{n}","features":{{"{kind}":{text}}}}}' for n, text in enumerate(piece))
        body = f'{{"candidates":[{candidates}]}}'.encode()
        plain = BODY.read(body)
        assert plain is not None, piece
        found = plain.candidates.values[:, column]  # type: ignore[attr-defined]
        expected = np.array(
            [float(text) + 0.0 if "." not in text and "e" not in text else float(text) for text in piece]
        )
        wrong = np.flatnonzero(found.view(np.uint64) != expected.view(np.uint64))
        assert not len(wrong), [(piece[n], found[n], expected[n]) for n in wrong]


def digits(text: str) -> int:
    """How many significant ones a number is written with."""
    return len(text.lower().split("e")[0].replace(".", "").lstrip("-0"))


def test_numbers_are_rounded_to_the_nearest_double_however_they_are_written() -> None:
    draw = random.Random(3)
    texts = []
    for _ in range(20_000):
        number = draw.choice([draw.gauss(0, 1), draw.uniform(0, 1e6), draw.gauss(0, 1) * 10 ** draw.randint(-40, 40)])
        texts.append(draw.choice(["{!r}", "{:.16e}", "{:.4f}", "{:.17g}", "{:.0f}.0", "{:.3E}"]).format(number))
    check_all_plain([text for text in texts if digits(text) <= 19])


def test_numbers_in_the_middle_of_two_doubles_go_to_the_even_one() -> None:
    draw = random.Random(4)
    texts = []
    for _ in range(4_000):
        bits = draw.randint(54, 63)
        middle = (2 * draw.getrandbits(52) + 2**53 + 1) << (bits - 54)
        texts += [f"{number}{end}" for number in (middle - 1, middle, middle + 1) for end in (".0", "e0", "")]
    for power in range(1, 20):
        for _ in range(200):
            middle = Fraction(2**53 + 2 * draw.getrandbits(40) + 1, 2 ** draw.randint(2, 40)) * 10**power
            if middle.denominator == 1 and middle < 10**19:
                texts += [f"{middle.numerator + step}e-{power}" for step in (-1, 0, 1)]
    check_all_plain([text for text in texts if digits(text) <= 19])


def test_whole_numbers_and_zeros_are_what_the_ordinary_decoder_makes_of_them() -> None:
    check_all_plain(
        ["0", "-0", "-0.0", "0e5", "-0.000e-12", "0.0E+00", "7", "-7", "1e5", "12.0", "9007199254740991"], "reviews"
    )
    check_all_plain(["0", "-0", "-0.0", "0.000000000000000000000000000001", "9999999999999999999", "-1e-30", "5E+2"])


@pytest.mark.parametrize(
    "text",
    [
        "01", "-", "+1", ".5", "1.", "1e", "1e+", "--1", "1.5.2", "0x10", "1_000", "NaN", "Infinity", "-Infinity",
        "1e400", "1e-400", "nul", "True", "12345678901234567890", "0.12345678901234567890", "1e65", "1 2", '"1"',
    ],
)  # fmt: skip
def test_what_is_no_plain_number_is_left_to_the_ordinary_decoder(text: str) -> None:
    assert BODY.read(f'{{"candidates":[{{"id":"A","features":{{"price":{text}}}}}]}}'.encode()) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"candidates":[{"id":"A","features":{}}],"candidates":["B"]}',
        '{"candidates":["B"],"candid\\u0061tes":[{"id":"A","features":{}}]}',
        '{"candidates":[{"id":"A","id":"B","features":{}}]}',
        '{"candidates":[{"id":"A","features":{},"features":null}]}',
        '{"candidates":[{"id":"A","features":{"price":1,"price":2}}]}',
        '{"candidates":[{"id":"A","features":{"kind":"back\\slash"}}]}',
        '{"candidates":[{"id":"A","features":{"kind":"unheard of"}}]}',
        '{"candidates":[{"id":"A","features":{"reviews":1.5}}]}',
        '{"candidates":[{"id":"A","features":{"reviews":9007199254740993}}]}',
        '{"candidates":[{"id":"A","features":{}},{"id":"A"}]}',
        '{"candidates":[{"features":{}}]}',
        '{"candidates":[{"id":"A","features":{}},{"features":{}}]}',
        '{"candidates":[{"id":"A","features":{}},{}]}',
        '{"candidates":[{"id":"","features":{}}]}',
        '{"candidates":[{"id":"\u00e9","features":{}}]}',
        '{"candidates":[{"id":"A","features":{}},]}',
        '{"candidates":[{"id":"A","features":{}}]}}',
        '{"candidates":[{"id":"A","features":{}}]x}',
        '{"candidates":[{"id":"A","features":{}}],"context":{"device":"}',
        '{"candidates":[{"id":"A","features":{}}],"top_k":tru}',
        '{"candidates":[]}',
        "{}",
        "",
        " ",
        ":",
    ],
)
def test_what_is_not_plain_is_left_to_the_ordinary_decoder(body: str) -> None:
    assert BODY.read(body.encode()) is None


@pytest.mark.parametrize(
    "context",
    [
        b'{"days":2,"candidates":1.5}',
        rb'{"device":"\"]},\u005c\\","days":2}',
        b'{"device":"[{","candidates":null}',
        b"null",
    ],
)
def test_what_is_around_the_candidates_may_have_any_form(context: bytes) -> None:
    assert check(b'{"context": %b, "candidates": [{"id": "A", "features": {"price": 1}}], "top_k": 3.0}' % context)


def test_an_id_may_be_as_long_as_the_ordinary_decoder_allows() -> None:
    assert check(b'{"candidates":[{"id":"%b","features":{}}]}' % (b"A" * 128))
    assert not check(b'{"candidates":[{"id":"%b","features":{}}]}' % (b"A" * 129))


def test_a_list_that_is_too_long_is_left_to_the_ordinary_decoder_which_refuses_it() -> None:
    def of(count: int) -> bytes:
        return json.dumps({"candidates": [{"id": f"A{n}", "features": {"price": n}} for n in range(count)]}).encode()

    assert BODY.read(of(40)) is not None
    assert BODY.read(of(41)) is None
    with pytest.raises(Problem, match="41 candidates were sent and 40 are allowed"):
        BODY.decode(of(41))


def test_candidates_that_rules_look_at_come_one_by_one() -> None:
    body = b'{"candidates":[{"id":"A","features":{"price":2}}]}'
    assert isinstance(BODY.decode(body).candidates, Columns)
    one_by_one = JsonBody(SHAPE, one_by_one=True).decode(body)
    assert one_by_one.candidates[0].features.f0 == 2.0


def test_a_shape_without_features_has_plain_bodies_too() -> None:
    bare = JsonBody(RequestShape((), (), max_candidates=3), one_by_one=False)
    found = bare.read(b'{"candidates":["A",{"id":"B","features":{}},{"features":null,"id":"C"}]}')
    assert found is not None
    assert (list(found.candidates), list(found.candidates.bringing)) == (["A", "B", "C"], [1])  # type: ignore[attr-defined]
    assert bare.read(b'{"candidates":["A",{"id":"B","features":{"":1}}]}') is None


def test_a_slice_of_candidates_has_their_features() -> None:
    body = b'{"candidates":["A",{"id":"B","features":{"price":2}},"C",{"id":"D","features":{"price":4}},"E"]}'
    candidates: Any = BODY.decode(body).candidates
    part = candidates[2:4]
    assert (list(part), part.bringing.tolist()) == (["C", "D"], [1])
    assert list(part.brought()) == [(1, {"price": 4.0})]
    assert list(candidates[2:3].brought()) == []


def test_what_is_logged_of_a_candidate_is_what_it_said() -> None:
    features = {"price": 1.5, "reviews": 7, "free": True, "kind": "caf\u00e9", "place": "museums"}
    body = json.dumps({"candidates": [{"id": "A", "features": {**features, "rating": None}}]}, ensure_ascii=False)
    ((place, logged),) = BODY.decode(body.encode()).candidates.brought()  # type: ignore[attr-defined]
    assert (place, logged) == (0, features)
    assert [type(one) for one in logged.values()] == [float, int, bool, str, str]


def test_many_categories_are_found_by_their_texts() -> None:
    field = Field("city", "category", tuple(f"city {n}" for n in range(5_000)))
    cities = JsonBody(RequestShape((), (field,), max_candidates=5_000), one_by_one=False)
    told = [{"id": f"{n}", "features": {"city": city}} for n, city in enumerate(field.categories)]
    found = cities.read(json.dumps({"candidates": told}).encode())
    assert found is not None
    assert found.candidates.values[:, 0].tolist() == list(range(5_000))  # type: ignore[attr-defined]


def test_no_request_waits_for_a_compiler() -> None:
    """What is compiled at the start serves any body: an Arrow one's columns, a slice's, structs, other shapes."""
    body = json.dumps({"candidates": [{"id": f"A{n}", "features": {"price": n, "kind": "museum"}} for n in range(9)]})
    columns = BODY.decode(body.encode()).candidates
    for candidates in (columns, columns[2:5], columns[3:3], SHAPE.decode(body.encode()).candidates):
        MAKER.rows(None, candidates)
    MAKER.rows(
        None,
        Columns(
            SHAPE.activity, ["A"], np.zeros(1, np.int64), np.zeros((1, len(ACTIVITY))), {len(ACTIVITY) - 1: ["tours"]}
        ),
    )
    for kernel in (json_scan.scan, lay):
        assert len(kernel.signatures) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is guarded with mprotect")
def test_no_byte_outside_of_a_text_is_read(tmp_path: Path) -> None:
    """Each text ends where its process may not read on; and numba looks at every index."""
    house = Path(__file__).parent.parent.parent
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(house)}
    child = subprocess.run(
        [sys.executable, Path(__file__).parent / "guarded_texts.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    plain, others = map(int, child.stdout.split())
    assert plain > 50
    assert others > 1_000
