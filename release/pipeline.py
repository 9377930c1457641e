"""The whole way on one machine: train, plan, bundle, image, push, canary, promote or destroy."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from release.cluster import NAMESPACE, check_what_answers, perform, put_live, run_container
from release.errors import ToolError
from release.history import Event, Release, Verdict, append, now, now_live, read_history
from release.image import Image, build_image, pull_image, push_image
from release.plan import Live, Plan
from release.servers import LOOPBACK, Server, container, free_port, prometheus, started
from release.tools import ask, run

TRAIN_SECONDS = 3_600
BUNDLE_SECONDS = 300
JUDGE_SECONDS = 4 * 3_600
LOAD_SECONDS = 86_400

ARM: Final = 'arm="{}"'
VERDICTS: Final[Mapping[int, Verdict]] = {0: "PASS", 1: "FAIL", 2: "INCONCLUSIVE"}


class Ending(NamedTuple):
    """How a release ended: what became of it, why, and the image, if one was made."""

    event: Event | None
    reason: str
    release: Release | None


@dataclass
class Stopwatch:
    """Tells the time of each step."""

    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.tell(f"-- {name}")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.tell(f"   {name}: {self.seconds[name]:.1f} s")


@dataclass(frozen=True)
class Canary:
    """How a canary is judged here. `rate`: requests a second to each arm; `options`: more words for the judge."""

    rate: float
    scrape_seconds: float
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Where things are. `port` is that of the live container; `train` the command that registers a model."""

    record: Path
    repository: str
    folder: Path
    port: int
    train: str
    canary: Canary
    stopwatch: Stopwatch

    def live(self) -> Live | None:
        release = now_live(read_history(self.record))
        return None if release is None else release.live

    def release(self, plan: Plan) -> Ending:
        """Do what a plan says. Raises `ReleaseError` when a step cannot be done; nothing live has changed then."""
        if plan.train:
            with self.stopwatch.step("train and register"):
                run(*_words(self.train), seconds=TRAIN_SECONDS)
        if plan.control is None or plan.treatment is None:
            return Ending(None, "the plan releases nothing", None)
        bundles = self.folder / "model"
        with self.stopwatch.step("bundle"):
            shutil.rmtree(bundles, ignore_errors=True)
            uris = {"control": plan.control, "treatment": plan.treatment}
            with ThreadPoolExecutor(len(uris)) as pool:  # each of them waits for an MLflow of its own to be imported
                list(pool.map(partial(_write_bundle, bundles), uris, uris.values()))
        with self.stopwatch.step("image"):
            tag = build_image(plan.code, bundles, name=NAMESPACE)
        with self.stopwatch.step("push"):
            image = push_image(tag, self.repository)
        return self.prove(image, hotfix=plan.canary == "short")

    def release_image(self, name: str) -> Ending:
        """Prove an image that was pushed before, and put it live. Raises `ReleaseError`."""
        with self.stopwatch.step("pull"):
            image = pull_image(name)
        return self.prove(image, hotfix=False)

    def prove(self, image: Image, *, hotfix: bool) -> Ending:
        """Run the image as a canary beside a fresh baseline, then promote or destroy it, and record which."""
        baseline = now_live(read_history(self.record))
        if baseline is None:
            return self._promote(image, "none", "the first release: there is no baseline to win against")
        if baseline.digest == image.digest:
            return Ending(None, f"{image.tag} is live already", baseline)
        with self.stopwatch.step("canary"):
            verdict, reason = self._judge(baseline, image, hotfix=hotfix)
        if verdict == "PASS":
            return self._promote(image, verdict, reason)
        refused = _record(self.record, image, "refused", verdict, reason)
        return Ending("refused", reason, refused)

    def _promote(self, image: Image, verdict: Verdict, reason: str) -> Ending:
        with self.stopwatch.step("promote"):
            perform(put_live(image.name, "docker", port=self.port), self.stopwatch.tell)
            check_what_answers(self.port, Live(image.code, image.control, image.treatment))
            released = _record(self.record, image, "released", verdict, reason)
        return Ending("released", reason, released)

    def _judge(self, baseline: Release, image: Image, *, hotfix: bool) -> tuple[Verdict, str]:
        """The verdict and its reason; both containers, their load and their Prometheus are gone afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = {"baseline": free_port(), "canary": free_port()}
        with ExitStack() as stack:
            for arm, name in (("baseline", baseline.image), ("canary", image.name)):
                run("docker", "pull", "--quiet", name, seconds=300)
                command = run_container(f"{NAMESPACE}-{arm}", name, port=ports[arm])
                stack.enter_context(container(f"{NAMESPACE}-{arm}", command, ports[arm]))
            loads = [
                stack.enter_context(started(self._load(port), self.folder / f"load-{arm}.log"))
                for arm, port in ports.items()
            ]
            url = stack.enter_context(
                prometheus(ports, scrape_seconds=self.canary.scrape_seconds, log=self.folder / "prometheus.log")
            )
            return self._ask_the_judge(url, baseline, image, hotfix, loads)

    def _ask_the_judge(
        self, url: str, baseline: Release, image: Image, hotfix: bool, loads: Sequence[Server]
    ) -> tuple[Verdict, str]:
        out = self.folder / "canary"
        shutil.rmtree(out, ignore_errors=True)
        same_models = (image.control, image.treatment) == (baseline.control, baseline.treatment)
        words = [
            *("canary", "judge", "--watch", "--prometheus", url, "--out", str(out)),
            *("--baseline", ARM.format("baseline"), "--canary", ARM.format("canary")),
            *("--canary-code", image.code, "--baseline-code", baseline.code),
            *("--scrape-seconds", f"{self.canary.scrape_seconds:g}"),
            *(["--hotfix"] if hotfix else []),
            *(["--code-only"] if same_models else []),
            *self.canary.options,
        ]
        code, said = ask(*frontrow(*words), seconds=JUDGE_SECONDS)
        if code not in VERDICTS or not (out / "verdict.json").exists():
            raise ToolError(f"the canary judge ended with {code} and no verdict:\n{said}")
        for load in loads:
            load.check()  # what nobody asked for was not proven
        return VERDICTS[code], "; ".join(_reasons(out / "verdict.json"))

    def _load(self, port: int) -> Sequence[str]:
        """Random arrivals: two even loads would stay in step, and one arm always wait for the other's processor."""
        url, rate = f"http://{LOOPBACK}:{port}", f"{self.canary.rate:g}"
        return frontrow("bench", url, "--rate", rate, "--arrivals", "random", "--seconds", str(LOAD_SECONDS))


def frontrow(*words: str) -> tuple[str, ...]:
    """A command of ours, for a child process of this very Python."""
    return (sys.executable, "-m", "frontrow", *words)


def _write_bundle(bundles: Path, variant: str, uri: str) -> None:
    run(*frontrow("release", "bundle", "--model", uri, "--out", str(bundles / variant)), seconds=BUNDLE_SECONDS)


def _words(command: str) -> tuple[str, ...]:
    first, *others = shlex.split(command)
    return frontrow(*others) if first == "frontrow" else (first, *others)


def _reasons(verdict: Path) -> Iterator[str]:
    for reason in json.loads(verdict.read_bytes())["reasons"]:
        yield f"{reason['gate']} {reason['subject']}: {reason['says']}"


def _record(record: Path, image: Image, event: Event, verdict: Verdict, reason: str) -> Release:
    release = Release(at=now(), event=event, verdict=verdict, reason=reason, **asdict(image))
    append(record, release)
    return release
