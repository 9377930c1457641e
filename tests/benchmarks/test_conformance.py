"""The conformance suite: its table, its eyes, and what Frontrow answers to all of it."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.conformance.attacks import ANYTHING, ATTACKS, CLOSING, Attack, Ordinary
from benchmarks.conformance.behaviours import behaviour_checks
from benchmarks.conformance.finding import Check, Finding, Subject, Verdict, failed, judged
from benchmarks.conformance.frontrow import FRONTROW
from benchmarks.conformance.report import Examination, load, markdown, save
from benchmarks.conformance.suite import Row, all_checks, run
from benchmarks.conformance.under_load import Scale
from benchmarks.conformance.wire import Exchange, exchange
from benchmarks.conformance.wire_checks import judge, wire_checks
from benchmarks.errors import Unreachable
from benchmarks.peers.measure import Site, body_of
from benchmarks.peers.peer import OWN_PYTHON, Place, free_port
from benchmarks.peers.query import Questioner, write_for_peers
from benchmarks.peers.running import running
from benchmarks.reference_bundle import train
from benchmarks.target import Target

STRICT, ODD = Attack("strict", lambda _: b""), Attack("odd", lambda _: b"", ANYTHING)
EITHER = Attack("either", lambda _: b"", CLOSING)
PATIENT = Attack("patient", lambda _: b"", hang_up=True)


def seen(*statuses: int, closed: bool = True, body: bytes = b"", garbage: bytes = b"") -> Exchange:
    return Exchange(list(statuses), [body] * len(statuses), closed, garbage, 0.1)


@pytest.mark.parametrize(
    ("attack", "found", "right"),
    [
        (STRICT, seen(400), True),
        (STRICT, seen(400, closed=False), False),
        (STRICT, seen(), False),
        (STRICT, seen(200), False),
        (STRICT, seen(400, 400), False),
        (STRICT, seen(500), False),
        (STRICT, seen(501), True),
        (STRICT, seen(400, body=b"Traceback (most recent call last)"), False),
        (STRICT, seen(400, garbage=b"HTTP/0.9 what"), False),
        (PATIENT, seen(), True),
        (PATIENT, seen(200), False),
        (EITHER, seen(200), True),
        (EITHER, seen(400), True),
        (EITHER, seen(200, closed=False), False),
        (EITHER, seen(200, 404), False),
        (ODD, seen(200, closed=False), True),
        (ODD, seen(405, closed=False), True),
        (ODD, seen(200, 400), True),
        (ODD, seen(200, 200), False),
        (ODD, seen(500), False),
    ],
)
def test_what_counts_as_a_clean_refusal(attack: Attack, found: Exchange, right: bool) -> None:
    assert judge(attack, found).verdict == ("passed" if right else "failed")


def test_there_are_at_least_sixty_attacks_each_with_a_name_of_its_own() -> None:
    names = [attack.name for attacks in ATTACKS.values() for attack in attacks]
    assert len(names) >= 60
    assert len(set(names)) == len(names)


def test_no_attack_is_the_ordinary_request() -> None:
    one = Ordinary(Target("127.0.0.1", 80, "/v1/rank", tls=False), b'{"candidates":[]}')
    made = [attack.make(one) for attacks in ATTACKS.values() for attack in attacks]
    assert one.request() not in made
    assert len(set(made)) == len(made)


@contextmanager
def answering(*pieces: bytes, close: bool) -> Iterator[Target]:
    """A server of one connection that reads a little and says `pieces`; with `close` unset it waits for the caller."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1_000)
            for piece in pieces:
                connection.sendall(piece)
            if not close:
                connection.recv(1_000)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield Target("127.0.0.1", listener.getsockname()[1], "/", tls=False)
        thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_every_answer_on_a_connection_is_seen() -> None:
    with answering(b"HTTP/1.1 100 Continue\r\n\r\n" + OK[:20], OK[20:] + OK, close=True) as target:
        found = exchange(target, [b"GET / HTTP/1.1\r\n\r\n"])
    assert (found.statuses, found.bodies, found.closed, found.garbage) == ([200, 200], [b"ok", b"ok"], True, b"")


def test_an_answer_that_ends_with_the_connection_is_seen() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"no", close=True) as target:
        found = exchange(target, [b"GET / HTTP/1.1\r\n\r\n"])
    assert (found.statuses, found.bodies, found.closed) == ([400], [b"no"], True)


def test_a_connection_that_stays_open_is_seen() -> None:
    with answering(OK, close=False) as target:
        found = exchange(target, [b"GET / HTTP/1.1\r\n\r\n"], seconds=0.2)
    assert (found.statuses, found.closed) == ([200], False)


def test_bytes_that_are_no_http_are_seen() -> None:
    with answering(b"what?\r\n\r\n", close=True) as target:
        assert exchange(target, [b"GET / HTTP/1.1\r\n\r\n"]).garbage == b"what?\r\n\r\n"


def test_a_caller_that_hangs_up_is_heard_by_the_server() -> None:
    with answering(close=False) as target:  # which ends when it reads the end of the caller's side
        found = exchange(target, [b"GET /"], hang_up=True, seconds=5)
    assert (found.statuses, found.closed) == ([], True)


def row(group: str, name: str, verdict: Verdict, seen: str) -> Row:
    return Row(group, name, verdict, seen)


KEYS = [("wire: chunks", "a"), ("wire: chunks", "b"), ("under load", "deadline")]
OURS = Examination(
    "Frontrow",
    "2026-11-23",
    "2 CPUs",
    [
        row("wire: chunks", "a", "passed", "400, closed"),
        row("wire: chunks", "b", "passed", "400"),
        row("under load", "deadline", "passed", "9 of 10"),
    ],
)
OTHERS = Examination(
    "other",
    "2026-11-23",
    "2 CPUs",
    [
        row("wire: chunks", "a", "failed", "200|open"),
        row("wire: chunks", "b", "passed", "400"),
        row("under load", "deadline", "not offered", "no header"),
    ],
)


def test_the_table_counts_shows_figures_and_every_attack_that_one_of_them_failed() -> None:
    text = markdown([OURS, OTHERS, Examination("gone", "", "", [], "pip exits with 1")], KEYS)
    assert "| wire: chunks | 2 of 2 | 1 of 2 |" in text
    assert "| a | 400, closed | **200/open** |" in text
    assert "| b |" not in text
    assert "- gone was not examined: pip exits with 1" in text


def test_what_is_not_offered_is_never_counted_as_passed() -> None:
    text = markdown([OURS, OTHERS], KEYS)
    assert "| under load | 1 of 1 | 0 of 0, 1 not offered |" in text
    assert "| deadline | 9 of 10 | not offered: no header |" in text


def test_a_run_of_some_checks_keeps_what_an_earlier_one_found_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results" / "ours.json"
    save(OURS, file)
    save(replace(OURS, examined_at="later", rows=[row("wire: chunks", "a", "failed", "nothing")]), file)
    found = load(file)
    assert [(each.name, each.verdict) for each in found.rows] == [
        ("a", "failed"),
        ("b", "passed"),
        ("deadline", "passed"),
    ]
    assert found.examined_at == "later"


def test_a_server_that_did_not_come_up_has_no_table() -> None:
    assert markdown([Examination("gone", "", "", [], "no")], KEYS) == "- gone was not examined: no\n"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    build: Path = tmp_path_factory.mktemp("conformance")
    bundle = train(build / "reference", trees=3, leaves=7, activities=40)
    write_for_peers(bundle, build / "model")
    site = Site(build, build / "reference", build / "model")
    queries = Questioner(bundle).ask(5, 4)
    place = Place(OWN_PYTHON, free_port(), "inline", site.bundle, site.model, build)
    target = Target("127.0.0.1", place.port, FRONTROW.paths["inline"], tls=False)
    with running(FRONTROW.launch(place), build / "server.log") as server:
        server.wait_for(Target(target.host, target.port, FRONTROW.ready, tls=False))
        bodies = [body_of(FRONTROW, query, "inline").json for query in queries]
        yield Subject(FRONTROW, place, target, queries, bodies, server)


def test_frontrow_refuses_every_attack_but_those_that_are_known(subject: Subject) -> None:
    checks = wire_checks()
    with ThreadPoolExecutor(8) as pool:
        findings = list(pool.map(lambda check: run(check, subject), checks))
    failed = {check.name: each.seen for check, each in zip(checks, findings, strict=True) if each.verdict == "failed"}
    assert not failed, failed


def test_frontrow_behaves_among_bad_callers(subject: Subject) -> None:
    """Those checks that need no silent machine and leave the server running."""
    findings = {check.name: run(check, subject) for check in behaviour_checks()}
    failed = {name: each.seen for name, each in findings.items() if each.verdict != "passed"}
    assert not failed, failed


def test_every_check_has_a_name_of_its_own() -> None:
    keys = [(check.group, check.name) for check in all_checks(Scale())]
    assert len(set(keys)) == len(keys)


def test_a_server_that_cannot_be_reached_has_failed_the_check(subject: Subject) -> None:
    def ask(_: Subject) -> Finding:
        raise Unreachable("nobody there")

    assert run(Check("group", "name", ask), subject) == failed("nobody there")
    assert run(Check("group", "name", lambda _: judged("well", right=True)), subject).verdict == "passed"
