import os
import shutil
import threading
from pathlib import Path

import msgspec

from monitoring.journal import Journal, Reader, files


class Line(msgspec.Struct):
    text: str
    other: object = None


def read(folder: Path, kind: str = "lines") -> list[str]:
    return [line.text for line in Reader(folder, kind, Line)]


def test_what_is_offered_is_written_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "folder", "lines", max_bytes=2**20)
    journal.start()
    for number in range(1_000):
        assert journal.offer(Line(str(number)))
    journal.close()
    assert read(tmp_path / "new" / "folder") == [str(number) for number in range(1_000)]
    assert journal.stats() == (1_000, 0, None)


def test_when_too_much_waits_more_is_dropped_and_counted_and_nobody_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "lines", max_bytes=2**20, max_waiting=10)  # nobody writes before `start`
    taken = [journal.offer(Line(str(number)), parts=4) for number in range(5)]
    assert taken == [True, True, False, False, False]
    assert journal.stats().dropped == 3
    journal.start()
    journal.close()
    assert read(tmp_path) == ["0", "1"]


def test_an_entry_that_is_no_json_is_dropped_and_the_next_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "lines", max_bytes=2**20)
    journal.start()
    journal.offer(Line("bad", other=threading.Lock()))
    journal.offer(Line("good"))
    journal.close()
    assert read(tmp_path) == ["good"]
    written, dropped, error = journal.stats()
    assert (written, dropped) == (1, 1)
    assert isinstance(error, TypeError)


def test_a_disk_that_refuses_costs_the_lines_of_that_time_alone(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    journal = Journal(folder, "lines", max_bytes=400)  # a new file every 100 bytes
    journal.start()
    shutil.rmtree(folder)
    for _ in range(50):
        journal.offer(Line("x" * 100))
    wait_for(lambda: sum(journal.stats()[:2]) == 50)
    assert journal.stats().dropped > 0
    assert isinstance(journal.stats().error, OSError)
    folder.mkdir()
    dropped = journal.stats().dropped
    journal.offer(Line("back"))
    journal.close()
    assert read(folder) == ["back"]
    assert journal.stats().dropped == dropped


def test_the_oldest_files_go_when_the_folder_is_full(tmp_path: Path) -> None:
    (tmp_path / "lines-0000000000000000001-1.jsonl").write_text('{"text":"of another process, long ago"}\n' * 10)
    (tmp_path / "others-0000000000000000001-1.jsonl").write_text("not ours\n" * 1_000)
    journal = Journal(tmp_path, "lines", max_bytes=4_000)
    journal.start()
    for number in range(2_000):
        journal.offer(Line(f"{number:050}"))
        if number % 10 == 0:
            wait_for(lambda done=number: journal.stats().written == done + 1)
    journal.close()
    kept = read(tmp_path)
    assert sum(path.stat().st_size for path in files(tmp_path, "lines")) <= 4_000
    assert kept[-1] == f"{1_999:050}"
    assert kept == sorted(kept)
    assert (tmp_path / "others-0000000000000000001-1.jsonl").exists()


def test_a_torn_line_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "lines-0000000000000000001-1.jsonl"
    path.write_bytes(b'{"text":"one"}\n{"text":"tw')
    reader = Reader(path, "lines", Line)
    assert [line.text for line in reader] == ["one"]
    assert reader.damaged == 1


def wait_for(what: object) -> None:
    """Until another thread has come so far, at most about a minute."""
    assert callable(what)
    pause = threading.Event()
    for _ in range(6_000):
        if what():
            return
        pause.wait(0.01)
    raise AssertionError(f"process {os.getpid()} waited in vain")
