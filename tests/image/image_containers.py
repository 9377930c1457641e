"""Docker as the tests use it: run a container the way a strict cluster would, ask what runs in it, stop it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

CODE_VERSION = "image-under-test"

# What a namespace with `enforce: restricted` and a read-only root leaves to a container.
STRICT = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "64", "--memory", "512m"),
)

# Runs inside the container, which has no curl: asks until the answer has the status that is waited for.
_ASK = """
import http.client, json, sys, time
port, method, path, body, wanted, give_up_after = json.loads(sys.argv[1])
give_up_at = time.monotonic() + give_up_after
while True:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if wanted in (None, answer.status) or time.monotonic() > give_up_at:
            print(json.dumps([answer.status, dict(answer.getheaders()), answer.read().decode()]))
            break
    except OSError:
        if time.monotonic() > give_up_at:
            raise
    time.sleep(0.05)
"""


def docker(*arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done


def inspect(what: str) -> dict[str, Any]:
    (facts,) = json.loads(docker("inspect", what).stdout)
    return dict(facts)


class Image(NamedTuple):
    """An image, and the folder with the bundles that went into it."""

    tag: str
    bundles: Path

    @property
    def labels(self) -> dict[str, str]:
        return dict(inspect(self.tag)["Config"]["Labels"])

    @property
    def bytes(self) -> int:
        """Unpacked, base image included."""
        return int(inspect(self.tag)["Size"])


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Container(NamedTuple):
    id: str
    port: int

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker("exec", self.id, *command, check=check)

    def python(self, program: str, *arguments: str) -> str:
        return self.run("python", "-c", program, *arguments).stdout

    def ask(self, path: str, body: Any = None, *, until: int | None = None) -> Answer:
        """What the service answers to a caller inside the container; `until`: ask for up to 60 s for that status."""
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        question = json.dumps([self.port, method, path, content, until, 60 if until else 0])
        status, headers, text = json.loads(self.python(_ASK, question))
        answer = Answer(status, headers, json.loads(text))
        assert until in (None, status), answer
        return answer

    def exit_code(self) -> int:
        """Wait for the end of the container, 60 s at most."""
        return int(docker("wait", self.id).stdout)

    def output(self) -> str:
        logs = docker("logs", self.id)
        return logs.stdout + logs.stderr


@contextmanager
def running(image: str, *options: str, network: str = "none", port: int = 8000) -> Iterator[Container]:
    """A strict container, gone afterwards; its output is printed for the case that a test fails."""
    settings = ("--env", f"FRONTROW_PORT={port}")
    identity = docker("run", "--detach", *STRICT, "--network", network, *settings, *options, image).stdout.strip()
    container = Container(identity, port)
    try:
        yield container
    finally:
        print(container.output())
        docker("rm", "--force", identity)
