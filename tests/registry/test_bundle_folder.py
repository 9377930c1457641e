"""Bundles on disk: what is written is read back, and what is damaged is refused by name."""

import json
import math
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from registry_models import EXAMPLE, FEATURES, ROWS, TRAINED_AT, describe, put, write

from registry import BundleError, BundleExistsError, Feature, Golden, load_model, read_bundle
from registry.bundle import MAX_FILE_BYTES, copy_bundle
from registry.golden import decode_golden, encode_golden
from scoring.compiled import CompiledEngine

HOUSE = Path(__file__).parents[2]


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
    return found


def golden(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "golden.json").read_bytes())
    return found


def test_a_written_bundle_reads_back_as_it_was_given(tmp_path: Path, text: bytes) -> None:
    write(tmp_path / "bundle", text, catalog=b"PAR1")
    bundle = read_bundle(tmp_path / "bundle")
    assert (bundle.name, bundle.version, bundle.run_id, bundle.alias) == (
        "activity-ranker",
        "7",
        "0123456789abcdef",
        None,
    )
    assert (bundle.objective, bundle.trees, bundle.trained_at) == ("lambdarank", 4, TRAINED_AT)
    assert (bundle.features, bundle.example) == (FEATURES, EXAMPLE)
    assert bundle.read("model.lgb") == text
    assert bundle.profile() == {"rows": 300}
    assert bundle.catalog == tmp_path / "bundle" / "catalog.parquet"


def test_profile_and_catalog_may_be_missing(tmp_path: Path, text: bytes) -> None:
    bundle = write(tmp_path / "bundle", text, profile=None)
    assert (bundle.profile(), bundle.catalog) == (None, None)


def test_a_loaded_model_scores_the_golden_rows_as_lightgbm_does(folder: Path, booster: Any) -> None:
    model = load_model(folder)
    rows = model.bundle.golden().rows
    assert np.array_equal(rows.view(np.uint64)[~np.isnan(rows)], ROWS.view(np.uint64)[~np.isnan(ROWS)])
    expected = booster.predict(ROWS, validate_features=False)
    assert model.engine.score(rows).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 1


def test_loading_imports_neither_mlflow_nor_pandas(folder: Path) -> None:
    program = """
        import sys
        sys.modules["mlflow"] = sys.modules["pandas"] = None  # an import of them fails
        from pathlib import Path
        from registry import fetch, load_model
        fetched = fetch(sys.argv[1], cache=Path("nowhere"), tracking_uri=None, timeout_seconds=1)
        print(fetched.origin, load_model(fetched.folder).engine.trees)
        print(sorted(name for name in sys.modules if name.split(".")[0] in {"mlflow", "pandas", "sklearn"}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)],
        cwd=HOUSE,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("bundle 4\n['mlflow', 'pandas']\n", "")


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    arrays.arrays(np.float64, (3, 4), elements=st.floats()),
    arrays.arrays(np.float64, 3, elements=finite),
)
def test_golden_rows_survive_json_to_the_last_bit(rows: Any, scores: Any) -> None:
    back = decode_golden(encode_golden(Golden(rows, scores)), 4)
    assert back.scores.tobytes() == scores.tobytes()
    assert np.array_equal(np.isnan(back.rows), np.isnan(rows))
    assert back.rows[~np.isnan(rows)].tobytes() == rows[~np.isnan(rows)].tobytes()


# ---- refusals

Damage = Callable[[Path], object]


def edit(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file and leave its digest."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def forge(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file and its digest."""
    return lambda folder: put(folder, name, change((folder / name).read_bytes()))


def forge_golden(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = golden(folder)
        change(document)
        put(folder, "golden.json", json.dumps(document).encode())

    return damage


def say(**changes: Any) -> Damage:
    return lambda folder: describe(folder, **changes)


def say_features(change: Callable[[list[Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        features = described(folder)["features"]
        change(features)
        describe(folder, features=features, example=[])

    return damage


def say_files(change: Callable[[dict[str, str]], object]) -> Damage:
    def damage(folder: Path) -> None:
        files = described(folder)["files"]
        change(files)
        describe(folder, files=files)

    return damage


def replace_by_link(folder: Path) -> None:
    (folder / "model.lgb").rename(folder.parent / "elsewhere.lgb")
    (folder / "model.lgb").symlink_to(folder.parent / "elsewhere.lgb")


def replace_by_pipe(folder: Path) -> None:
    (folder / "model.lgb").unlink()
    os.mkfifo(folder / "model.lgb")


def replace_by_folder(folder: Path) -> None:
    (folder / "model.lgb").unlink()
    (folder / "model.lgb").mkdir()


def next_number(value: float) -> float:
    return math.nextafter(value, math.inf)


def other_leaves(text: bytes) -> bytes:
    """The model with another first decimal in every leaf, of the same length."""

    def other(line: re.Match[bytes]) -> bytes:
        return re.sub(rb"\.(\d)", lambda digit: b".1" if digit[1] != b"1" else b".2", line[0])

    return re.sub(rb"(?m)^leaf_value=.*$", other, text)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "model edited": (
        edit("model.lgb", lambda text: text.replace(b"lambdarank", b"lambdaRank", 1)),
        r"model\.lgb: sha256 is ",
    ),
    "model cut short": (
        edit("model.lgb", lambda text: text[:-20]),
        r"model\.lgb: sha256 is [0-9a-f]{64} and bundle\.json says",
    ),
    "model cut short, digest forged": (forge("model.lgb", lambda text: text[: len(text) // 2]), r"model\.lgb: "),
    "model empty, digest forged": (forge("model.lgb", lambda _: b""), r"model\.lgb: "),
    "model missing": (lambda folder: (folder / "model.lgb").unlink(), r"model\.lgb is missing"),
    "model is a link": (replace_by_link, r"model\.lgb cannot be read: Too many levels of symbolic links"),
    "model is a pipe": (replace_by_pipe, r"model\.lgb is no regular file"),
    "model is a folder": (replace_by_folder, r"model\.lgb cannot be read: Is a directory"),
    "model too large": (
        lambda folder: os.truncate(folder / "model.lgb", MAX_FILE_BYTES + 1),
        r"model\.lgb has 268435457 bytes and 268435456 are allowed",
    ),
    "leaves changed, digest forged": (
        forge("model.lgb", other_leaves),
        r"golden\.json: row 0 must score .*, the reference engine gives .* \(5 of 5 rows differ\)",
    ),
    "golden edited": (edit("golden.json", lambda text: text + b" "), r"golden\.json: sha256 is "),
    "golden score off by one bit": (
        forge_golden(lambda golden: golden.update(scores=[next_number(golden["scores"][0]), *golden["scores"][1:]])),
        r"golden\.json: row 0 must score .*, the reference engine gives .* \(1 of 5 rows differ\)",
    ),
    "golden score missing": (forge_golden(lambda golden: golden["scores"].pop()), r"golden\.json: 5 rows and 4 scores"),
    "golden score null": (
        forge_golden(lambda golden: golden.update(scores=[None] * 5)),
        r"golden\.json: Expected `float`",
    ),
    "golden row too short": (
        forge_golden(lambda golden: golden["rows"][2].pop()),
        r"golden\.json: row 2 has 4 values and .* 5",
    ),
    "no golden rows": (
        forge_golden(lambda golden: golden.update(rows=[], scores=[])),
        r"golden\.json: there are no golden rows",
    ),
    "golden value is text": (
        forge_golden(lambda golden: golden["rows"][0].insert(0, "nan")),
        r"golden\.json: Invalid enum value 'nan'",
    ),
    "golden is not JSON": (forge("golden.json", lambda text: text[:-1]), r"golden\.json: Input data was truncated"),
    "stray file": (lambda folder: (folder / "notes.txt").write_text("x"), r"notes\.txt is not listed in bundle\.json"),
    "stray folder": (lambda folder: (folder / "code").mkdir(), r"code is not listed in bundle\.json"),
    "no description": (
        lambda folder: (folder / "bundle.json").unlink(),
        r"is no bundle: there is no bundle\.json in it",
    ),
    "description is not JSON": (edit("bundle.json", lambda text: text[:-3]), r"bundle\.json: Input data was truncated"),
    "description is a list": (edit("bundle.json", lambda _: b"[]"), r"bundle\.json: Expected `object`, got `array`"),
    "format of the future": (
        say(format=2, new_field=1),
        r"bundle\.json: the format is 2 and this version reads format 1",
    ),
    "unknown field": (say(signature="x"), r"bundle\.json: Object contains unknown field `signature`"),
    "field missing": (say(version=...), r"bundle\.json: Object missing required field `version`"),
    "field of a wrong type": (say(trees="4"), r"bundle\.json: Expected `int`, got `str` - at `\$\.trees`"),
    "time without zone": (say(trained_at="2026-11-23T12:00:00"), r"bundle\.json: .*timezone"),
    "name escapes the folder": (
        say_files(lambda files: files.update({"../model.lgb": "0" * 64})),
        r"'\.\./model\.lgb' is no name",
    ),
    "absolute name": (say_files(lambda files: files.update({"/etc/passwd": "0" * 64})), r"'/etc/passwd' is no name"),
    "hidden name": (say_files(lambda files: files.update({".profile": "0" * 64})), r"'\.profile' is no name"),
    "description lists itself": (
        say_files(lambda files: files.update({"bundle.json": "0" * 64})),
        r"'bundle\.json' is no name",
    ),
    "digest is no digest": (
        say_files(lambda files: files.update({"model.lgb": "d41d8cd9"})),
        r"sha256 of model\.lgb is 'd41d8cd9'",
    ),
    "golden not listed": (say_files(lambda files: files.pop("golden.json")), r"bundle\.json lists no golden\.json"),
    "nothing listed": (say(files={}), r"bundle\.json lists no golden\.json and no model\.lgb"),
    "number of trees": (say(trees=5), r"trees is 5 in bundle\.json and 4 in model\.lgb"),
    "objective": (
        say(objective="rank_xendcg"),
        r"objective is 'rank_xendcg' in bundle\.json and 'lambdarank' in model\.lgb",
    ),
    "feature renamed": (
        say_features(lambda features: features[2].update(name="prize")),
        r"feature 2 is 'price' in the model and 'prize' in the feature list",
    ),
    "features in another order": (
        say_features(lambda features: features.reverse()),
        r"feature 0 is 'days_to_trip' in the model",
    ),
    "feature left out": (
        say_features(lambda features: features.pop()),
        r"the model has 5 features and the feature list 4",
    ),
    "feature twice": (
        say_features(lambda features: features[2].update(name="kind")),
        r"the 5 features do not have 5 different names",
    ),
    "categories in another order": (
        say_features(lambda features: features[1]["categories"].reverse()),
        r"categories of feature 'device' are \[desktop, mobile, tablet\] \(3\) in the model and \[tablet, ",
    ),
    "category left out": (
        say_features(lambda features: features[3]["categories"].pop()),
        r"categories of feature 'kind' are",
    ),
    "category twice": (
        say_features(lambda features: features[3].update(categories=["walk"] * 3)),
        r"bundle\.json: feature 'kind' has 3 categories and some of them twice - at `\$\.features\[3\]`",
    ),
    "categories of a number": (
        say_features(lambda features: features[2].update(categories=["cheap"])),
        r"bundle\.json: feature 'price' is a number and its categories are",
    ),
    "unknown role": (
        say_features(lambda features: features[0].update(role="visitor")),
        r"bundle\.json: Invalid enum value 'visitor'",
    ),
    "example of an unknown feature": (say(example=[{"prize": 1.0}]), r"row 0 of the example has no feature 'prize'"),
    "example of a wrong type": (
        say(example=[{}, {"price": "39"}]),
        r"row 1 of the example: feature 'price' is a number and '39' is not",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_in_one_line_that_names_the_fault(folder: Path, damage: str) -> None:
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(BundleError, match=message) as refusal:
        load_model(folder, "reference")
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        read_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": FEATURES[:4]}, "5 features and the feature list 4"),
        ({"golden_rows": ROWS[:, :4]}, r"golden rows have the shape \(5, 4\) and the model 5 features"),
        ({"golden_rows": ROWS[:0]}, r"golden rows have the shape \(0, 5\)"),
        ({"model_text": b"tree\n"}, r"model\.lgb: "),
        ({"example": [{"price": True}]}, "feature 'price' is a number and True is not"),
    ],
)
def test_nothing_is_written_of_parts_that_do_not_belong_together(
    tmp_path: Path, text: bytes, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        write(tmp_path / "bundle", text, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_never_written_over(folder: Path, text: bytes) -> None:
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(BundleExistsError, match="is there already"):
        write(folder, text, version="8")
    assert (folder / "bundle.json").read_bytes() == before


def test_of_two_writers_of_one_folder_one_wins_and_the_bundle_is_whole(tmp_path: Path, text: bytes) -> None:
    start, outcomes = threading.Barrier(4), []

    def attempt(version: str) -> None:
        start.wait(timeout=30)
        try:
            outcomes.append(write(tmp_path / "bundle", text, version=version).version)
        except BundleExistsError:
            outcomes.append("exists")

    writers = [threading.Thread(target=attempt, args=(str(number),)) for number in range(1, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert sorted(outcomes)[1:] == ["exists"] * 3
    assert load_model(tmp_path / "bundle").bundle.version == min(outcomes)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_writer_that_dies_halfway_leaves_nothing_that_is_taken_for_a_bundle(folder: Path, tmp_path: Path) -> None:
    program = """
        import os, pathlib, sys
        from registry.bundle import copy_bundle, read_bundle
        pathlib.Path.rename = lambda *_: os._exit(9)  # the last step
        copy_bundle(read_bundle(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), source="x", alias=None)
    """
    place = tmp_path / "bundles"
    arguments = [str(folder), str(place / "bundle")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], cwd=HOUSE, check=False, timeout=100
    )
    assert done.returncode == 9
    assert [path.name.startswith(".unfinished-") for path in place.iterdir()] == [True]
    assert copy_bundle(read_bundle(folder), place / "bundle", source="x", alias=None).version == "7"


def test_a_copy_says_under_which_name_it_was_asked_for_and_is_equal_otherwise(folder: Path, tmp_path: Path) -> None:
    original = read_bundle(folder)
    copy = copy_bundle(original, tmp_path / "copy", source="models:/activity-ranker@champion", alias="champion")
    assert (copy.source, copy.alias) == ("models:/activity-ranker@champion", "champion")
    assert copy.files == original.files
    assert load_model(tmp_path / "copy").bundle.features == FEATURES


@pytest.mark.parametrize(
    ("feature", "value", "number"),
    [
        (Feature("f", "context", "number"), 2, 2.0),
        (Feature("f", "context", "integer"), 2.0, 2.0),
        (Feature("f", "context", "boolean"), True, 1.0),
        (Feature("f", "context", "category", ("a", "b")), "b", 1.0),
        (Feature("f", "context", "category", ("a", "b")), "c", math.nan),
        (Feature("f", "context", "number"), None, math.nan),
    ],
)
def test_a_value_stands_in_a_row_as_the_model_learnt_it(feature: Feature, value: Any, number: float) -> None:
    assert feature.encode(value) == pytest.approx(number, abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize(("kind", "value"), [("number", "2"), ("number", True), ("integer", 2.5), ("boolean", 1)])
def test_a_value_of_another_type_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=f"is a {kind} and"):
        Feature("f", "activity", kind).encode(value)


# ---- compiled tables


def test_a_written_bundle_has_the_tables_of_its_model_and_they_are_mapped(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.tables == folder / "model.tables"
    tables = cast("CompiledEngine", load_model(folder).engine).tables
    assert not any(array.flags.owndata or array.flags.writeable for array in tables)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_tables_that_do_not_hold_are_made_anew(folder: Path, content: bytes) -> None:
    scores = load_model(folder).engine.score(ROWS).tolist()
    put(folder, "model.tables", content)
    model = load_model(folder)
    assert model.engine.name == "compiled"
    assert model.engine.score(ROWS).tolist() == scores


def test_a_bundle_without_tables_is_loaded_and_its_copy_has_them(folder: Path, tmp_path: Path) -> None:
    files = {name: digest for name, digest in described(folder)["files"].items() if name != "model.tables"}
    describe(folder, files=files)
    (folder / "model.tables").unlink()
    assert load_model(folder).engine.name == "compiled"
    copy = copy_bundle(read_bundle(folder), tmp_path / "copy", source="x", alias=None)
    assert copy.tables == tmp_path / "copy" / "model.tables"


def test_a_model_for_the_reference_engine_alone_has_no_tables(tmp_path: Path, text: bytes) -> None:
    poisson = text.replace(b"objective=lambdarank", b"objective=poisson")
    assert write(tmp_path / "bundle", poisson).tables is None
