"""The record of releases, and which release is gone back to."""

import multiprocessing
from pathlib import Path

import pytest
from release_records import A, B, C, D, release

from release.errors import HistoryError
from release.history import Release, append, earlier, now_live, read_history


def back_to(one: Release) -> Release:
    return release(one.digest[-1], "rolled-back")


def test_what_was_appended_is_read_again_in_its_order(tmp_path: Path) -> None:
    record = tmp_path / "new" / "releases.jsonl"

    for one in (A, B, back_to(A)):
        append(record, one)

    assert read_history(record) == [A, B, back_to(A)]


def test_a_record_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none") == []


def append_often(record: Path, letter: str) -> None:
    for _ in range(50):
        append(record, release(letter))


def test_two_pipelines_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    record = tmp_path / "releases.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_often, args=(record, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert sorted(one.tag for one in read_history(record)) == [A.tag] * 50 + [B.tag] * 50


@pytest.mark.parametrize("line", [b'{"at": "2026-', b"{}", b"[]", b'{"digest": "latest"}', b"\xff"])
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: bytes) -> None:
    record = tmp_path / "releases.jsonl"
    append(record, A)
    record.write_bytes(record.read_bytes() + line + b"\n")

    with pytest.raises(HistoryError, match=r"releases\.jsonl, line 2: "):
        read_history(record)


@pytest.mark.parametrize(
    ("history", "live", "before"),
    [
        ([A, B], B, A),
        ([A, B, C], C, B),
        ([A, release("b", "refused")], A, None),
        ([A, release("b", "refused"), C], C, A),
        ([A, B, back_to(A)], A, None),
        ([A, B, C, back_to(B)], B, A),
        ([A, B, back_to(A), C], C, A),
        ([A, B, C, back_to(A), D], D, A),
        ([A, B, back_to(A), B], B, A),
        ([A, A], A, None),
    ],
)
def test_the_release_to_go_back_to_is_the_one_before_that_was_never_gone_back_from(
    history: list[Release], live: Release, before: Release | None
) -> None:
    current = now_live(history)
    assert current is not None
    assert current.digest == live.digest
    if before is None:
        with pytest.raises(HistoryError, match="only release that stands"):
            earlier(history, None)
    else:
        assert earlier(history, None).digest == before.digest


@pytest.mark.parametrize("name", [B.digest, B.tag, B.code, B.image])
def test_any_release_that_was_live_can_be_named(name: str) -> None:
    assert earlier([A, B, C, back_to(A)], name) == B


@pytest.mark.parametrize("name", [D.tag, release("c", "refused").tag, "nonsense"])
def test_an_image_that_was_never_live_is_not_gone_back_to(name: str) -> None:
    with pytest.raises(HistoryError, match="no image that was live"):
        earlier([A, B, release("c", "refused")], name)


def test_what_is_live_is_not_gone_back_to() -> None:
    with pytest.raises(HistoryError, match="is live already"):
        earlier([A, B], B.tag)


def test_nothing_can_be_gone_back_to_before_the_first_release() -> None:
    assert now_live([]) is None
    with pytest.raises(HistoryError, match="nothing was released yet"):
        earlier([release("a", "refused")], None)
