"""A real `frontrow serve`, in a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

HOUSE = Path(__file__).parents[1]
START_SECONDS = 60  # a bound for a busy machine, not a promise


class Process:
    """`url` is known once the process said that it is ready; `output` is everything that it printed so far."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], folder: Path) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FRONTROW_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "frontrow", "serve", *arguments],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(HOUSE), "FRONTROW_CODE_VERSION": "test", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that its workers can be killed with it
        )
        self.output = ""
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        assert self._ready.wait(START_SECONDS), self.output
        assert self.url, f"it ended before it was ready:\n{self.output}"

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit code, when nobody holds its output any more: a worker that outlived it would."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"something of it is still running:\n{self.output}"
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it and its workers are gone already
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if found := re.search(r"Frontrow is ready: (\S+)", line):
                self.url = found[1]
            if "Stop with Ctrl-C" in line:  # the last line of what it says when it is ready
                self._ready.set()
        self._ready.set()


@contextmanager
def serving(bundles: Path, *arguments: str, **settings: object) -> Iterator[Process]:
    """A service of the two bundles that is ready; `settings` are those of docs/settings.md, in lower case."""
    defaults = {
        "control_model": bundles / "control",
        "treatment_model": bundles / "treatment",
        "allow_forced_variant": True,
        "lame_duck_seconds": 0,
        "request_timeout_ms": 10_000,
    }
    environment = {f"FRONTROW_{name.upper()}": str(value) for name, value in (defaults | settings).items()}
    process = Process(["--port", "0", *arguments], environment, bundles)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.kill()
