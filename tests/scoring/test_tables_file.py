from pathlib import Path

import numpy as np
import pytest
from random_models import model_text

from scoring import StaleTablesError, load_engine, parse_model_text
from scoring.compiled import CompiledEngine
from scoring.tables import build_tables, open_tables, write_tables
from scoring.verification import adversarial_rows

MODEL = parse_model_text(model_text(1, trees=10, leaves=40, features=7))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tables"
    write_tables(path, build_tables(MODEL, budget_bytes=2**26), sha256=MODEL.sha256)
    return path


def test_mapped_tables_score_as_built_ones(file: Path) -> None:
    rows = adversarial_rows(MODEL, 300)
    built = CompiledEngine(MODEL, build_tables(MODEL, budget_bytes=2**26))
    mapped = CompiledEngine(MODEL, open_tables(file, sha256=MODEL.sha256))
    assert mapped.score(rows).tobytes() == built.score(rows).tobytes()
    assert not any(array.flags.owndata or array.flags.writeable for array in mapped.tables)
    assert [path.name for path in file.parent.iterdir()] == ["tables"]


def test_tables_of_another_model_are_stale(file: Path) -> None:
    with pytest.raises(StaleTablesError, match=f"model {MODEL.sha256} and {'0' * 64} is wanted"):
        open_tables(file, sha256="0" * 64)


def test_tables_of_another_format_are_stale(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.tables.FORMAT", 9)
    with pytest.raises(StaleTablesError, match="format 1 and 9 is wanted"):
        open_tables(file, sha256=MODEL.sha256)


def test_damage_of_any_byte_and_a_file_cut_anywhere_are_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 60).astype(int).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 0x20
        for content in (bytes(damaged), whole[:at]):
            file.write_bytes(content)
            with pytest.raises(StaleTablesError):
                open_tables(file, sha256=MODEL.sha256)


def test_an_engine_takes_whole_tables_and_builds_its_own_for_stale_or_missing_ones(file: Path) -> None:
    for path in (file, file.with_name("missing")):
        assert load_engine(MODEL, tables=path).name == "compiled"
    file.write_bytes(b"")
    assert load_engine(MODEL, tables=file).name == "compiled"
