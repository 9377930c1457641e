import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from random_models import model_text

from scoring import load_engine, parse_model_text
from scoring.catalog import MaskCatalog, load_catalog
from scoring.shared_array import held_in_common
from scoring.verification import adversarial_rows

ROWS = np.arange(12.0).reshape(3, 4)


class Maker:
    """Makes one array and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> NDArray[np.float64]:
        self.calls += 1
        return ROWS.copy()


@pytest.mark.parametrize("has_folder", [False, True])
def test_it_is_what_was_made_and_nobody_can_change_it(tmp_path: Path, has_folder: bool) -> None:
    array = held_in_common(tmp_path if has_folder else None, Maker(), of=(b"x",))
    assert type(array) is np.ndarray
    assert array.tolist() == ROWS.tolist()
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0


def test_it_is_made_once_for_all_who_name_the_same_folder_and_the_same_content(tmp_path: Path) -> None:
    maker = Maker()
    one, another = (held_in_common(tmp_path, maker, of=(b"model", ROWS)) for _ in range(2))
    assert maker.calls == 1
    assert not one.flags.owndata
    assert one.tolist() == another.tolist()
    held_in_common(tmp_path, maker, of=(b"model", ROWS + 1))
    held_in_common(tmp_path, maker, of=(b"other", ROWS))
    held_in_common(tmp_path / "..", maker, of=(b"model", ROWS))
    assert maker.calls == 4


def test_processes_that_come_together_make_it_once(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, numpy as np; from scoring.shared_array import held_in_common\n"
        "def make():\n print('made'); return np.ones(100_000)\n"
        "held_in_common(pathlib.Path(sys.argv[1]), make, of=[b'x'])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)
    ]
    said = b"".join(child.communicate(timeout=60)[0] for child in children)
    assert said.split() == [b"made"]
    assert [child.returncode for child in children] == [0] * 4


def test_old_files_make_room_and_who_has_mapped_them_keeps_them(tmp_path: Path) -> None:
    array = held_in_common(tmp_path, Maker(), of=(b"old",))
    (file,) = tmp_path.glob("*.npy")
    os.utime(file, (0, 0))
    held_in_common(tmp_path, Maker(), of=(b"new",))
    assert not file.exists()
    assert array.tolist() == ROWS.tolist()


def test_a_catalog_scores_from_masks_that_another_one_made(tmp_path: Path) -> None:
    model = parse_model_text(model_text(3, trees=9, leaves=40, features=7))
    engine, rows = load_engine(model), adversarial_rows(model, 50)
    context = np.arange(7) % 2 == 0
    arguments = (rows[:2].copy(), np.array([0, 20, 50]), np.arange(50), np.empty((0, 7)))
    scores = [
        load_catalog(engine, rows, context, shared=folder).score(*arguments).tobytes()
        for folder in (None, tmp_path, tmp_path)
    ]
    assert len(set(scores)) == 1
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert isinstance(load_catalog(engine, rows, context, shared=tmp_path), MaskCatalog)
