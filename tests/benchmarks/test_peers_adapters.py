"""Servers of the comparison, asked in their own words. Only those run here that Frontrow's environment has."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.bodies import Body
from benchmarks.errors import BadBodies
from benchmarks.peers import fastapi, mlflow, mlserver
from benchmarks.peers.environment import python_of
from benchmarks.peers.errors import NotInstalled, WrongAnswer
from benchmarks.peers.measure import Plan, Site, check_answers, check_scores, measure
from benchmarks.peers.peer import OWN_PYTHON, Launch, Peer, Place, Workload, free_port
from benchmarks.peers.query import Query, Questioner, write_for_peers
from benchmarks.peers.roster import ECHO, FRONTROW, PEERS
from benchmarks.peers.running import running
from benchmarks.reference_bundle import train
from benchmarks.target import Target
from registry import read_bundle, write_bundle

CANDIDATES = 7
BOTH: tuple[Workload, ...] = ("inline", "catalog")
PLAIN_FASTAPI = dataclasses.replace(fastapi.PEER, requirements=None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    build = tmp_path_factory.mktemp("peers")
    bundle = train(build / "reference", trees=3, leaves=7, activities=40)
    write_for_peers(bundle, build / "model")
    return Site(build, build / "reference", build / "model")


@pytest.fixture(scope="module")
def queries(site: Site) -> list[Query]:
    return Questioner(read_bundle(site.bundle)).ask(CANDIDATES, 20)


@contextmanager
def asked(peer: Peer, site: Site, folder: Path) -> Iterator[Target]:
    """Start a server that answers both workloads, and wait until it is ready; the target's path is still to be set."""
    place = Place(OWN_PYTHON, free_port(), "inline", site.bundle, site.model, folder)
    target = Target("127.0.0.1", place.port, peer.ready, tls=False)
    with running(peer.launch(place), folder / "server.log") as server:
        server.wait_for(target)
        yield target


@pytest.fixture(scope="module")
def plain_fastapi(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with asked(PLAIN_FASTAPI, site, tmp_path_factory.mktemp("fastapi")) as target:
        yield target


@pytest.fixture(scope="module")
def frontrow(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with asked(FRONTROW, site, tmp_path_factory.mktemp("frontrow")) as target:
        yield target


def check(peer: Peer, server: Target, workload: Workload, asked: list[Query], expected: list[Query]) -> None:
    target = dataclasses.replace(server, path=peer.paths[workload])
    check_answers(peer, target, bodies(peer, asked, workload), expected, callers=4)


def bodies(peer: Peer, queries: list[Query], workload: Workload) -> list[Body]:
    return [Body(json.dumps(peer.body(query, workload)).encode(), {}) for query in queries]


@pytest.mark.parametrize("workload", BOTH)
def test_frontrow_answers_with_the_scores_of_booster_predict(
    workload: Workload, frontrow: Target, queries: list[Query]
) -> None:
    check(FRONTROW, frontrow, workload, queries, queries)


@pytest.mark.parametrize("workload", BOTH)
def test_a_plain_service_answers_with_the_scores_of_booster_predict(
    workload: Workload, plain_fastapi: Target, queries: list[Query]
) -> None:
    check(PLAIN_FASTAPI, plain_fastapi, workload, queries, queries)


def test_a_server_that_takes_one_question_for_another_is_found_out(plain_fastapi: Target, queries: list[Query]) -> None:
    with pytest.raises(WrongAnswer, match="of 7 scores are not those of Booster"):
        check(PLAIN_FASTAPI, plain_fastapi, "inline", queries, queries[::-1])


def test_a_server_that_refuses_is_found_out(plain_fastapi: Target, queries: list[Query]) -> None:
    with pytest.raises(WrongAnswer, match="it answers 422"):
        check(dataclasses.replace(PLAIN_FASTAPI, body=lambda *_: {}), plain_fastapi, "inline", queries, queries)


def test_the_echo_sends_back_the_very_bytes(site: Site, queries: list[Query], tmp_path: Path) -> None:
    with asked(ECHO, site, tmp_path) as target:
        sent = bodies(ECHO, queries, "catalog")
        check_answers(ECHO, target, sent, queries, callers=1)
        assert target.request("POST", "/", sent[0].json).body == sent[0].json


def test_the_next_float_is_a_wrong_score(queries: list[Query]) -> None:
    scores = queries[0].scores.tolist()
    check_scores(scores, queries[0])
    scores[3] = float(np.nextafter(scores[3], np.inf))
    with pytest.raises(WrongAnswer, match=f"1 of {CANDIDATES} scores"):
        check_scores(scores, queries[0])
    with pytest.raises(WrongAnswer, match="6 scores for 7 candidates"):
        check_scores(scores[:-1], queries[0])


def test_questions_are_the_same_in_every_run(site: Site, queries: list[Query]) -> None:
    again = Questioner(read_bundle(site.bundle)).ask(CANDIDATES, 20)
    assert [query.ids for query in again] == [query.ids for query in queries]
    assert all(np.array_equal(one.rows, other.rows) for one, other in zip(again, queries, strict=True))
    assert len({query.rows.tobytes() for query in queries}) == len(queries)


def test_a_bundle_without_catalog_is_refused(site: Site, tmp_path: Path) -> None:
    bundle = read_bundle(site.bundle)
    without = write_bundle(
        tmp_path / "without",
        model_text=bundle.read("model.lgb"),
        features=bundle.features,
        golden_rows=bundle.golden().rows,
        example=bundle.example,
        name="without",
        version="1",
        source="test",
        trained_at=bundle.trained_at,
    )
    with pytest.raises(BadBodies, match="has no catalog"):
        Questioner(without)
    with pytest.raises(BadBodies, match="41 candidates are more than the 40"):
        Questioner(bundle).ask(41, 1)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_told_all_numbers_of_an_inline_question(peer: Peer, queries: list[Query]) -> None:
    numbers = json.loads(json.dumps(peer.body(queries[0], "inline")), parse_int=str)
    found = [value for value in leaves(numbers) if isinstance(value, float)]
    assert found == queries[0].rows.ravel().tolist()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_told_the_context_and_the_ids_of_a_catalog_question(peer: Peer, queries: list[Query]) -> None:
    said = leaves(json.loads(json.dumps(peer.body(queries[0], "catalog")), parse_int=str))
    assert [value for value in said if isinstance(value, float)] == queries[0].context_row.tolist()
    assert [value for value in said if isinstance(value, str) and value.startswith("A")] == queries[0].ids


def leaves(document: object) -> list[object]:
    """Everything in a JSON document that is neither a list nor an object, in its order."""
    if isinstance(document, dict):
        return [leaf for value in document.values() for leaf in leaves(value)]
    if isinstance(document, list):
        return [leaf for value in document for leaf in leaves(value)]
    return [document]


def test_scores_are_read_out_of_each_protocol(queries: list[Query]) -> None:
    scores = queries[0].scores.tolist()
    assert mlserver.scores({"outputs": [{"name": "predict", "data": scores}]}, queries[0]) == scores
    assert mlflow.scores({"predictions": scores}, queries[0]) == scores


def test_a_server_that_cannot_start_is_an_outcome_with_its_last_words(
    site: Site, queries: list[Query], tmp_path: Path
) -> None:
    broken = dataclasses.replace(
        PLAIN_FASTAPI,
        launch=lambda place: Launch([str(place.python), "-c", "raise SystemExit('no room for the model')"]),
    )
    said: list[str] = []
    outcome = measure(broken, "inline", queries, Plan((1,), 1), site=site, say=said.append)
    assert outcome.figures is None
    assert outcome.reason == "it ended with exit code 1: no room for the model"
    assert said == ["environment", "starting"]


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"gone @ file://{tmp_path}/gone-1-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
    with pytest.raises(NotInstalled, match="pip exits with 1"):
        python_of(dataclasses.replace(PLAIN_FASTAPI, requirements=requirements), tmp_path / "environment")


def test_nothing_of_a_server_is_left(tmp_path: Path) -> None:
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    log = tmp_path / "server.log"
    with running(Launch([str(OWN_PYTHON), "-c", program]), log) as server:
        while "up" not in log.read_text():
            assert server.exit_code() is None
        tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(tree) == 2
        assert server.memory_bytes() > 0
    assert not any(is_alive(process) for process in tree)


def test_a_child_that_has_lost_its_parent_is_ended_as_well(tmp_path: Path) -> None:
    child = "import time; print('up', flush=True); time.sleep(600)"
    program = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True)"
    log = tmp_path / "server.log"
    with running(Launch([str(OWN_PYTHON), "-c", program]), log) as server:
        while server.exit_code() is None or "up" not in log.read_text():
            assert server.exit_code() in {None, 0}
        orphan = psutil.Process(int(log.read_text().split()[0]))
        assert is_alive(orphan)
    assert not is_alive(orphan)


def is_alive(process: psutil.Process) -> bool:
    """A zombie, which its new parent has not collected yet, is not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_every_peer_has_locked_requirements() -> None:
    for peer in PEERS:
        assert peer.requirements is not None
        text = peer.requirements.read_text()
        assert "lightgbm==4.7.0" in text
        assert "--hash=sha256:" in text
        assert "://" not in text
