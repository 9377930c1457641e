"""What is sent."""

import json
from pathlib import Path

import pytest
from scripted_server import EXAMPLE, Reply, serve

from benchmarks.bodies import (
    DIFFERENT_BODIES,
    Body,
    ask_example,
    check_answered,
    payloads,
    random_bodies,
    read_bodies,
    read_ids,
)
from benchmarks.errors import BadBodies, Unanswered
from benchmarks.target import Target, parse_target

TARGET = Target("host", 80, "/v1/rank", tls=False)


def test_made_bodies_look_like_the_services_example() -> None:
    with serve() as server:
        example = ask_example(parse_target(server.url))
    bodies = random_bodies(example, (3, 3), None)
    documents = [json.loads(body.json) for body in bodies]
    assert len(documents) == DIFFERENT_BODIES
    for document in documents:
        assert set(document["context"]) == set(EXAMPLE["context"])  # type: ignore[call-overload]
        assert len({candidate["id"] for candidate in document["candidates"]}) == 3
    features = [candidate["features"] for document in documents for candidate in document["candidates"]]
    assert {each["category"] for each in features} == {"museum", "tour", "boat"}
    assert {each["open"] for each in features} == {True, None}
    assert all(15.5 <= each["price"] <= 40 for each in features)
    assert {type(each["reviews"]) for each in features} == {int}


def test_the_same_bodies_are_made_every_time() -> None:
    with serve() as server:
        example = ask_example(parse_target(server.url))
    assert random_bodies(example, (1, 20), None) == random_bodies(example, (1, 20), None)


def test_sizes_cover_the_whole_range() -> None:
    with serve() as server:
        bodies = random_bodies(ask_example(parse_target(server.url)), (1, 4), None)
    assert {len(json.loads(body.json)["candidates"]) for body in bodies} == {1, 2, 3, 4}


def test_with_ids_candidates_are_different_ids_alone(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("A1\nA2\nA3\n")
    with serve() as server:
        bodies = random_bodies(ask_example(parse_target(server.url)), (2, 2), read_ids(tmp_path / "ids.txt"))
    for body in bodies:
        first, second = json.loads(body.json)["candidates"]
        assert first != second
        assert {first, second} < {"A1", "A2", "A3"}


def test_too_few_ids_are_refused_with_both_numbers() -> None:
    with serve() as server, pytest.raises(BadBodies, match="2 ids are too few for 5"):
        random_bodies(ask_example(parse_target(server.url)), (1, 5), ["A1", "A2"])


def test_ids_are_read_from_a_catalog(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["A1", "A2"], "price": [1.0, 2.0]}), tmp_path / "catalog.parquet")
    assert read_ids(tmp_path / "catalog.parquet") == ["A1", "A2"]


@pytest.mark.parametrize(
    ("text", "count"), [('{"a": 1}', 1), ('{\n "a": 1\n}\n', 1), ('{"a": 1}\n\n{"a": 2}\n', 2), ("[1, 2]", 1)]
)
def test_a_file_has_one_body_or_one_a_line(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "body.json").write_text(text)
    assert len(read_bodies(tmp_path / "body.json")) == count


@pytest.mark.parametrize("text", ["", "\n", '{"a": 1}\nnot json\n'])
def test_a_file_without_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "body.json").write_text(text)
    with pytest.raises(BadBodies, match=r"body\.json"):
        read_bodies(tmp_path / "body.json")


def test_a_callers_header_wins_over_ours_whatever_its_case() -> None:
    (payload,) = payloads(TARGET, [Body(b"{}", {"X-Visitor-Id": "bench-1"})], {"x-visitor-id": "ada", "Host": "other"})
    head, body = payload.split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/rank HTTP/1.1"
    assert sorted(lines[1:]) == [
        "Content-Length: 2",
        "Content-Type: application/json",
        "Host: other",
        "x-visitor-id: ada",
    ]
    assert body == b"{}"


def test_a_service_without_an_example_asks_for_a_body() -> None:
    with serve() as server, pytest.raises(BadBodies, match="give --body"):
        ask_example(parse_target(f"{server.url}/predict"))


def test_a_first_request_that_is_no_success_is_told_with_the_answer() -> None:
    with serve(lambda _number: Reply(422)) as server, pytest.raises(Unanswered, match="answered 422"):
        check_answered(parse_target(server.url), Body(b"{}", {}), {})
