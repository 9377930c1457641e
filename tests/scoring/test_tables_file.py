from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_models import model_text

from scoring import StaleTablesError, load_engine, parse_model_text, tables_file
from scoring.compiled import CompiledEngine
from scoring.tables import Tables, build_tables
from scoring.tables_file import encode_tables, open_tables
from scoring.verification import adversarial_rows

MODEL = parse_model_text(model_text(1, trees=10, leaves=40, features=7))
ANOTHER = parse_model_text(model_text(2, trees=10, leaves=40, features=7))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tables"
    path.write_bytes(tables_file(MODEL) or b"")
    return path


def test_mapped_tables_score_as_built_ones(file: Path) -> None:
    rows = adversarial_rows(MODEL, 300)
    built = CompiledEngine(MODEL, build_tables(MODEL, budget_bytes=2**26))
    mapped = CompiledEngine(MODEL, open_tables(file, MODEL))
    assert mapped.score(rows).tobytes() == built.score(rows).tobytes()
    assert not any(array.flags.owndata or array.flags.writeable for array in mapped.tables)
    assert tables_file(MODEL) == file.read_bytes()


def test_tables_of_another_model_are_stale(file: Path) -> None:
    with pytest.raises(StaleTablesError, match=f"model {MODEL.sha256} and {ANOTHER.sha256} is wanted"):
        open_tables(file, ANOTHER)


def test_tables_of_another_format_are_stale(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.tables_file.FORMAT", 9)
    with pytest.raises(StaleTablesError, match="format 1 and 9 is wanted"):
        open_tables(file, MODEL)


def test_damage_of_any_byte_and_a_file_cut_anywhere_are_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 60).astype(int).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 0x20
        for content in (bytes(damaged), whole[:at]):
            file.write_bytes(content)
            with pytest.raises(StaleTablesError):
                open_tables(file, MODEL)


def set_at(name: str, place: int, value: float) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        changed = getattr(tables, name).copy()
        changed[place] = value
        return tables._replace(**{name: changed})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_at("nodes", 0, 2**40 * 0xFFFFFF), "nodes"),
        (set_at("nodes", 0, 2**40 + 0xFFFFFFF8), "nodes"),
        (set_at("nodes", 0, 2**40 + 3), "nodes"),
        (set_at("roots", 1, 2**31), "depths"),
        (set_at("depths", 1, 2**31), "depths"),
        (set_at("code_offsets", 1, 2**40), "code_offsets"),
        (set_at("column_offsets", 2, -1), "column_offsets"),
        (set_at("block_offsets", -1, 2**40), "block_offsets"),
        (set_at("last_classes", 0, 2**31), "codes"),
        (set_at("last_classes", 2, -5), "codes"),
        (set_at("categories", 0, -1), "categories"),
        (set_at("categories", 1, 2**30), "categories"),
        (set_at("boundaries", -1, 1.0), "boundaries"),
        (set_at("boundaries", 0, np.inf), "boundaries"),
        (set_at("blocks", 0, 1.0), "blocks"),
        (lambda tables: tables._replace(values=tables.values[:-1]), "nodes"),
        (lambda tables: tables._replace(roots=tables.roots[:-1]), "roots"),
        (lambda tables: tables._replace(divisor=np.empty(0)), "divisor"),
        (lambda tables: tables._replace(codes=tables.codes[:-1]), "code_offsets"),
        (lambda tables: tables._replace(codes=tables.codes.astype(np.int64)), "codes are <i8"),
        (lambda tables: tables._replace(last_classes=tables.last_classes[:3]), "last_classes"),
    ],
)
def test_tables_that_would_lead_out_of_an_array_are_not_taken(
    file: Path, change: Callable[[Tables], Tables], said: str
) -> None:
    file.write_bytes(encode_tables(change(open_tables(file, MODEL)), sha256=MODEL.sha256))
    with pytest.raises(StaleTablesError, match=said):
        open_tables(file, MODEL)
    assert load_engine(MODEL, tables=file).name == "compiled"


def test_a_model_that_cannot_be_compiled_has_no_file() -> None:
    assert tables_file(MODEL, budget_bytes=1_000) is None


def test_an_engine_takes_whole_tables_and_builds_its_own_for_stale_or_missing_ones(file: Path) -> None:
    for path in (file, file.with_name("missing")):
        assert load_engine(MODEL, tables=path).name == "compiled"
    file.write_bytes(b"")
    assert load_engine(MODEL, tables=file).name == "compiled"
