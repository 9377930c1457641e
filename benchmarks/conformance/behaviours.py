"""What callers do to a server without breaking HTTP: come at once, be slow, leave, talk nonsense, stop it."""

import http.client
import math
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

from benchmarks.conformance.finding import Check, Finding, Subject, judged
from benchmarks.conformance.wire import exchange, seen
from benchmarks.peers.errors import WrongAnswer
from benchmarks.peers.measure import check_scores
from benchmarks.peers.running import running
from benchmarks.target import Answer

GROUP = "behaviour"
JSON = {"Content-Type": "application/json"}
BURST, LEAVERS, DEAF, CALLERS = 200, 200, 5, 16
REFUSALS = {429, 503}
RECEIPT_SECONDS = 20.0
OVERSIZE_BYTES = 64 * 2**20
PIECE_BYTES = 2**20
DEAF_BYTES, DEAF_SECONDS, SMALL_BUFFER_BYTES = 64 * 2**20, 1.0, 4_096
GROWTH_BYTES = 64 * 2**20
DRAIN_AFTER_ANSWERS = 200
DRAIN_SECONDS = 20.0
ON_THE_WAY_SECONDS = 0.01
_NUMBER = re.compile(rb"(?<=[\[:,])-?\d+\.\d+")


def behaviour_checks() -> list[Check]:
    """Checks that leave the server running."""
    checks: Sequence[tuple[str, Callable[[Subject], Finding]]] = (
        ("alone and among others a question gets equal scores", _equal),
        (f"{BURST} callers at once: each is answered, right or with a refusal", _burst),
        ("one bad request in a batch is refused, its neighbours are not", _poisoned),
        ("a body that is no JSON is the caller's fault", _no_json),
        (f"a body of {OVERSIZE_BYTES // 2**20} MiB is refused before it is read", _oversize),
        (f"{LEAVERS} callers who leave at once harm nobody", _leavers),
        (f"{DEAF} callers who read no answers cost {GROWTH_BYTES // 2**20} MiB of memory at most", _deaf),
        (f"a body that stops coming is cut within {RECEIPT_SECONDS:g} s", _slow_body),
        (f"headers that stop coming are cut within {RECEIPT_SECONDS:g} s", _slow_headers),
    )
    return [Check(GROUP, name, run) for name, run in checks]


def ending_checks() -> list[Check]:
    """Checks in their order: the first one stops the server, the others start it anew."""
    checks: Sequence[tuple[str, Callable[[Subject], Finding]]] = (
        ("SIGTERM: what was accepted is answered, and the process ends", _drain),
        ("it starts again on its port", _restart),
        ("killed amid requests it starts again on its port", _killed),
    )
    return [Check(GROUP, name, run) for name, run in checks]


def _scores(subject: Subject, answer: Answer, number: int) -> None:
    """Raises WrongAnswer unless `answer` is right for question `number`."""
    query = subject.queries[number]
    try:
        check_scores(subject.peer.scores(answer.json(), query), query)
    except (KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"no scores in {answer.status} {answer.body[:100]!r}") from error


def _everyone(subject: Subject, numbers: Sequence[int], callers: int) -> Counter[int]:
    """Ask questions by their numbers; returns answers by status, of which every 200 was right."""
    with ThreadPoolExecutor(callers) as pool:
        answers = list(pool.map(subject.ask, numbers))
    for number, answer in zip(numbers, answers, strict=True):
        if answer.status == 200:
            _scores(subject, answer, number)
    return Counter(answer.status for answer in answers)


def _equal(subject: Subject) -> Finding:
    numbers = range(len(subject.queries))
    alone = _everyone(subject, numbers, 1)
    together = _everyone(subject, [*numbers, *numbers], CALLERS)
    right = set(alone) == set(together) == {200}
    return judged(f"alone {_told(alone)}, {CALLERS} at a time {_told(together)}", right=right)


def _burst(subject: Subject) -> Finding:
    found = _everyone(subject, [number % len(subject.queries) for number in range(BURST)], BURST)
    return judged(_told(found), right=set(found) <= {200} | REFUSALS and found[200] > 0)


def _poisoned(subject: Subject) -> Finding:
    """Several rounds, as it takes luck to meet in a batch."""
    poison = _NUMBER.sub(b'"poison"', subject.bodies[0], count=1)
    of_poison, of_others = Counter[int](), Counter[int]()

    def ask(place: int) -> tuple[int, Answer]:
        return place, subject.send(poison) if place == 0 else subject.ask(place % len(subject.bodies))

    with ThreadPoolExecutor(CALLERS) as pool:
        for _ in range(10):
            for place, answer in pool.map(ask, range(CALLERS)):
                (of_others if place else of_poison)[answer.status] += 1
                if place and answer.status == 200:
                    _scores(subject, answer, place % len(subject.bodies))
    right = set(of_others) <= {200} and all(400 <= status < 500 for status in of_poison)
    return judged(f"bad one {_told(of_poison)}; neighbours {_told(of_others)}", right=right)


def _no_json(subject: Subject) -> Finding:
    found = Counter(subject.send(body).status for body in (b"", b"{", b"\xff\xfe", b"[1, 2", b"null"))
    return judged(_told(found), right=all(400 <= status < 500 for status in found))


def _oversize(subject: Subject) -> Finding:
    head = subject.ordinary.request(framing=b"Content-Length: %d" % OVERSIZE_BYTES, body=b"")
    pieces = [head, *[b" " * PIECE_BYTES] * (OVERSIZE_BYTES // PIECE_BYTES)]
    found = exchange(subject.target, pieces, seconds=10)
    return judged(seen(found), right=found.statuses in ([413], []) and found.closed)


def _leavers(subject: Subject) -> Finding:
    for number in range(LEAVERS):
        with socket.create_connection((subject.target.host, subject.target.port), timeout=5) as caller:
            caller.sendall(subject.ordinary.request()[: None if number % 2 else -10])
    found = _everyone(subject, range(len(subject.queries)), 4)
    return judged(f"afterwards {_told(found)}", right=set(found) == {200})


def _deaf(subject: Subject) -> Finding:
    """Callers who send requests one after another and read no answer: a server that reads on keeps those answers."""
    before = subject.server.memory_bytes()
    deaf: list[socket.socket] = []
    try:
        taken = sum(_pour(subject, deaf) for _ in range(DEAF))
        found = _everyone(subject, range(len(subject.queries)), 4)
        grown = subject.server.memory_bytes() - before
    finally:
        for caller in deaf:
            caller.close()
    told = f"others {_told(found)}; it took {taken / 2**20:.0f} MiB of theirs and grew by {grown / 2**20:.0f} MiB"
    return judged(told, right=set(found) == {200} and grown <= GROWTH_BYTES)


def _pour(subject: Subject, deaf: list[socket.socket]) -> int:
    """Send requests on one more connection until it takes no more; returns the bytes that it took."""
    caller = socket.socket()
    deaf.append(caller)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)  # or the system would read for it
    caller.settimeout(DEAF_SECONDS)
    caller.connect((subject.target.host, subject.target.port))
    request = subject.ordinary.request()
    endless, taken = memoryview(request * (1 + PIECE_BYTES // len(request))), 0
    try:
        while taken < DEAF_BYTES:
            taken += caller.send(endless[taken % len(request) :])
    except (TimeoutError, ConnectionError):
        pass  # it reads no more
    return taken


def _slow_body(subject: Subject) -> Finding:
    return _cut(subject, subject.ordinary.request()[:-10])


def _slow_headers(subject: Subject) -> Finding:
    return _cut(subject, subject.ordinary.request()[:40])


def _cut(subject: Subject, part: bytes) -> Finding:
    found = exchange(subject.target, [part], seconds=RECEIPT_SECONDS)
    right = found.closed and found.statuses in ([408], [])
    return judged(f"{seen(found)} after {found.seconds:.0f} s", right=right)


def _drain(subject: Subject) -> Finding:
    """Callers on connections of their own ask without pause; an answer that never comes was lost."""
    with _Callers(subject) as callers:
        callers.wait_for(DRAIN_AFTER_ANSWERS)
        callers.server_is_told_to_stop()
        os.kill(subject.server.pid, signal.SIGTERM)
        ended = _wait(lambda: subject.server.exit_code() is not None, DRAIN_SECONDS)
    code = subject.server.exit_code()
    right = ended and not callers.lost and set(callers.statuses) <= {200} | REFUSALS
    return judged(f"{_told(callers.statuses)}, {callers.lost} lost, exit code {code}", right=right)


def _restart(subject: Subject) -> Finding:
    return _started_again(subject, "restarted.log")


def _killed(subject: Subject) -> Finding:
    """All its processes at once, as the end of a container is; its callers' connections are left to the system."""
    with running(subject.peer.launch(subject.place), subject.place.scratch / "killed.log") as server:
        server.wait_for(replace(subject.target, path=subject.peer.ready))
        with _Callers(subject) as callers:
            callers.wait_for(DRAIN_AFTER_ANSWERS)
            server.signal(signal.SIGKILL)
    return _started_again(subject, "after-kill.log")


def _started_again(subject: Subject, log: str) -> Finding:
    with running(subject.peer.launch(subject.place), subject.place.scratch / log) as server:
        server.wait_for(replace(subject.target, path=subject.peer.ready))
        found = _everyone(subject, range(len(subject.queries)), 4)
        return judged(f"{_told(found)} after {server.seconds():.1f} s", right=set(found) == {200})


class _Callers:
    """Ask in turn, each on a connection that it keeps, until their server closes it.

    A request may meet a connection that is just being closed, and any client sends it again then (RFC 9112, 9.5). So
    only one that was sent before the server was told to stop, and got no answer, counts as lost.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CALLERS)]
        self._told_to_stop_at = math.inf
        self.statuses = Counter[int]()
        self.lost = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        _wait(lambda: self.statuses.total() >= answers, DRAIN_SECONDS)

    def server_is_told_to_stop(self) -> None:
        self._told_to_stop_at = time.monotonic() - ON_THE_WAY_SECONDS

    def _ask_on(self) -> None:
        target = self._subject.target
        connection = http.client.HTTPConnection(target.host, target.port, timeout=DRAIN_SECONDS)
        body = self._subject.bodies[0]
        while not self._stop.is_set():
            sent_at = time.monotonic()
            try:
                connection.request("POST", target.path, body, JSON)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.lost += sent_at < self._told_to_stop_at
                return
            self.statuses[answer.status] += 1
            if answer.will_close:
                return


def _wait(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _told(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "no answer"
