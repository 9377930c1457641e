"""From a model URI to a bundle folder, whatever state the registry is in.

MLflow is spoken to in a child process with a hard limit in time. So the service never imports it, a tracking server
that hangs cannot hang the service, and a model that crashes LightGBM's parser crashes the child.
"""

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from registry.bundle import read_bundle
from registry.cache import BundleCache, Question
from registry.errors import BundleError, ModelNotFound, RegistryError, RegistryUnavailable
from registry.uri import parse_uri

LOCAL_TRACKING_URI = "sqlite:///.frontrow/mlflow.db"

Origin = Literal["bundle", "registry", "last-known-good"]


@dataclass(frozen=True)
class Fetched:
    """A bundle folder and how it was come by.

    `fetched_at` is when the registry last said that this is the model; for a bundle folder, when it was read. `detail`
    is one line for an operator.
    """

    folder: Path
    origin: Origin
    detail: str
    fetched_at: datetime


class Answer(msgspec.Struct, frozen=True):
    """How far the child is; the last one is its answer. `text` is for people, `folder` comes with `verified`."""

    state: Literal["asking", "downloading", "verifying", "verified", "refused", "not found", "unavailable"]
    text: str = ""
    folder: str = ""


def fetch(uri: str, *, cache: Path, tracking_uri: str | None, timeout_seconds: float) -> Fetched:
    """A bundle folder for a model URI: `fetch_all` for a single one."""
    return fetch_all([uri], cache=cache, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)[0]


def fetch_all(uris: Sequence[str], *, cache: Path, tracking_uri: str | None, timeout_seconds: float) -> list[Fetched]:
    """A bundle folder for each model URI, in their order: docs/registry.md lists what a URI may be.

    Registered models are asked for in MLflow at `tracking_uri` (None: `MLFLOW_TRACKING_URI`, else the local
    `.frontrow/mlflow.db`), downloaded into `cache` unless they are there, and verified in full. When MLflow cannot be
    asked within `timeout_seconds`, the bundle that it named last stands in. Raises `RegistryUnavailable` where there
    is none, and `BundleError` for a URI that names nothing or a model that must not be served.
    """
    models = {uri: parse_uri(uri) for uri in uris}
    tracking_uri = tracking_uri or default_tracking_uri()
    bundles = BundleCache(cache)
    registered = [uri for uri, model in models.items() if not isinstance(model, Path)]
    answers = _ask(registered, bundles, tracking_uri, timeout_seconds) if registered else {}
    return [
        _read(model)
        if isinstance(model, Path)
        else _settle(Question(uri, without_credentials(tracking_uri)), bundles, answers[uri])
        for uri, model in ((uri, models[uri]) for uri in uris)
    ]


def _read(asked: Path) -> Fetched:
    folder = asked.resolve()  # at once: a link may lead elsewhere before all of the bundle is read
    bundle = read_bundle(folder)
    return Fetched(folder, "bundle", f"{bundle.name}/{bundle.version} from {asked}", datetime.now(UTC))


def _settle(question: Question, bundles: BundleCache, answer: Answer | RegistryError) -> Fetched:
    """What the answer stands for. Raises it when it is about the model, and not about MLflow."""
    if isinstance(answer, RegistryUnavailable):
        return _last_known_good(bundles, question, str(answer))
    if isinstance(answer, RegistryError):
        raise answer
    fetched_at = datetime.now(UTC)
    try:
        bundles.remember(question, Path(answer.folder), fetched_at)
    except OSError as error:
        return _last_known_good(bundles, question, f"the bundle cache {bundles} cannot be used: {error}")
    return Fetched(Path(answer.folder), "registry", answer.text, fetched_at)


def default_tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_TRACKING_URI


def check_local_store(tracking_uri: str) -> None:
    """Raise `RegistryUnavailable` where MLflow would make a database, empty and in half a minute, to look into it."""
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:///") and not database.exists():
        raise RegistryUnavailable(f"there is no MLflow database {database} (`frontrow demo` makes one)")


def without_credentials(text: str) -> str:
    """`text` with the user, password and query of every URI in it left out."""
    return re.sub(r"(?<=://)[^/\s]*@", "", re.sub(r"(://[^\s?]*)\?\S*", r"\1", text))


def mlflow_environment(timeout_seconds: float) -> dict[str, str]:
    """Settings of MLflow for one look at a registry: no telemetry, no pickles, no long retries."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(timeout_seconds)),
    }


def _last_known_good(bundles: BundleCache, question: Question, problem: str) -> Fetched:
    found = bundles.last_known_good(question)
    if found is None:
        raise RegistryUnavailable(
            f"{problem}, and there is no last known good bundle of {question.uri} in {bundles}; start MLflow, or "
            "name a bundle folder instead (FRONTROW_CONTROL_MODEL, FRONTROW_TREATMENT_MODEL)"
        )
    bundle, record = found
    detail = f"{problem}; {bundle.name}/{bundle.version} was good at {record.fetched_at:%Y-%m-%dT%H:%M:%SZ}"
    return Fetched(bundle.folder, "last-known-good", detail, record.fetched_at)


def _ask(
    uris: Sequence[str], bundles: BundleCache, tracking_uri: str, timeout_seconds: float
) -> dict[str, Answer | RegistryError]:
    """For each URI the child's answer, which is `verified`, or what it says otherwise.

    One child asks for all of them: starting MLflow's client takes longer than everything that it is asked.
    """
    try:
        check_local_store(tracking_uri)
        with ExitStack() as stack:
            workspaces = {uri: stack.enter_context(bundles.workspace()) for uri in uris}
            stderr = workspaces[uris[0]] / "stderr"
            code = _run_child(workspaces, bundles, stderr, tracking_uri, timeout_seconds)
            words = stderr.read_text(errors="replace").split("\n")
            judge = partial(_judge, code=code, words=words, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)
            return {uri: judge(_read_answer(workspace)) for uri, workspace in workspaces.items()}
    except RegistryUnavailable as error:
        return dict.fromkeys(uris, error)
    except OSError as error:
        return dict.fromkeys(uris, RegistryUnavailable(f"the bundle cache {bundles} cannot be used: {error}"))


def _judge(  # noqa: PLR0911 one meaning for each state
    answer: Answer, *, code: int | None, words: Sequence[str], tracking_uri: str, timeout_seconds: float
) -> Answer | RegistryError:
    """What an answer means, knowing how its child ended: with an exit code, or None when it was killed for its time."""
    where = f"MLflow at {without_credentials(tracking_uri)}"
    match answer.state:
        case "verified":
            return answer
        case "refused":
            return BundleError(answer.text)
        case "not found":
            return ModelNotFound(answer.text)
        case "unavailable":
            return RegistryUnavailable(answer.text)
        case "verifying" if code is not None and code < 0 and code != -signal.SIGKILL:
            return BundleError(f"{answer.text} crashed the process that did it: {signal.Signals(-code).name}")
        case "asking" if code is None:
            return RegistryUnavailable(f"{where} did not answer within {timeout_seconds:g} s")
        case _ if code is None:
            return RegistryUnavailable(f"{where} answered, but {answer.text} took more than {timeout_seconds:g} s")
    last_words = next((line.strip() for line in reversed(words) if line.strip()), "nothing said")
    return RegistryUnavailable(f"the process that asks {where} ended with code {code}: {last_words[:200]}")


def _run_child(
    workspaces: Mapping[str, Path], bundles: BundleCache, stderr_path: Path, tracking_uri: str, timeout_seconds: float
) -> int | None:
    """Run `python -m registry` to its end and return its exit code; None when it took too long and was killed."""
    environment = os.environ | mlflow_environment(timeout_seconds)
    environment["MLFLOW_TRACKING_URI"] = tracking_uri  # not an argument: it may hold a password
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_house(), os.environ.get("PYTHONPATH")]))
    questions = [part for uri, workspace in workspaces.items() for part in (uri, str(workspace))]
    with stderr_path.open("wb") as stderr:
        child = subprocess.Popen(  # noqa: S603 our own module
            [sys.executable, "-m", "registry", str(bundles), str(math.ceil(timeout_seconds)), *questions],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,  # MLflow may start processes of its own, which end with it
        )
        try:
            return child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _house() -> str:
    """The folder that this room stands in, so that the child finds it wherever it is started."""
    return str(Path(__file__).resolve().parent.parent)


def _read_answer(workspace: Path) -> Answer:
    try:
        return msgspec.json.decode((workspace / "answer.json").read_bytes(), type=Answer)
    except FileNotFoundError:
        return Answer("asking")
