"""From a model URI to a bundle folder, whatever state the registry is in."""

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_models import register, tags_of, write

from registry import BundleError, Fetched, ModelNotFound, ModelURIError, RegistryUnavailable, fetch, load_model
from registry.cache import BundleCache, Question
from registry.fetch import without_credentials

REMOTE = "https://me:secret@mlflow.invalid:5000/team?token=secret"
SHOWN = "https://mlflow.invalid:5000/team"
URI = "models:/activity-ranker@champion"
GOOD_AT = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def known_good(cache: Path, text: bytes) -> Path:
    """A bundle that the remote registry named some days ago."""
    folder = write(cache / "activity-ranker" / "7-01234567", text).folder
    BundleCache(cache).remember(Question(URI, SHOWN), folder, GOOD_AT)
    return folder


@pytest.fixture
def fake_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the child an mlflow whose import runs the code; `report(state)` says how far the child is."""

    def install(code: str) -> None:
        package = tmp_path / "fake" / "mlflow"
        package.mkdir(parents=True)
        report = "report = lambda state: open(sys.argv[4] + '/answer.json', 'w').write(json.dumps(state))"
        (package / "__init__.py").write_text(f"import json, os, signal, subprocess, sys, time\n{report}\n{code}\n")
        monkeypatch.setenv("PYTHONPATH", str(package.parent))

    return install


def ask(cache: Path, uri: str = URI, tracking_uri: str = REMOTE, timeout_seconds: float = 140) -> Fetched:
    return fetch(uri, cache=cache, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)


def test_a_bundle_folder_needs_no_registry(folder: Path, cache: Path) -> None:
    fetched = ask(cache, str(folder))
    assert (fetched.folder, fetched.origin) == (folder, "bundle")
    assert fetched.detail == f"activity-ranker/7 from {folder}"
    assert not cache.exists()


def test_a_link_is_followed_once_whatever_it_leads_to_while_a_bundle_is_read(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    fetched = ask(cache, str(link))
    assert (fetched.folder, fetched.detail) == (folder.resolve(), f"activity-ranker/7 from {link}")
    (folder / "golden.json").unlink()
    with pytest.raises(BundleError, match=re.escape(str(folder.resolve() / "golden.json"))):
        ask(cache, str(link))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        " ",
        "models:/",
        "models:/name",
        "models:name@alias",
        "models://name@alias",
        "models:/name@",
        "models:/name/0",
        "models:/name/-1",
        "models:/name/Production",
        "models:/name@alias/3",
        "models:/../../etc@alias",
        "models:/a/../b/3",
        "models:/.hidden/3",
        "models:/name\n/3",
        "runs:/",
        "runs:/abc",
        "runs:/abc/",
        "runs:/abc/../../etc",
        "runs:/abc//model",
        "runs:/../model",
        "s3://bucket/model",
        "https://example.org/model.lgb",
        "file:///tmp/model",
    ],
)
def test_a_uri_that_names_no_model_is_answered_with_what_is_allowed(uri: str, cache: Path) -> None:
    with pytest.raises(ModelURIError, match=r"names no model; allowed is models:/name@alias, .* or a bundle folder$"):
        ask(cache, uri)
    assert not cache.exists()


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: there is no bundle\.json in it"):
        ask(cache, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (REMOTE, SHOWN),
        ("postgresql://me:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://me:p@ss@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:///.frontrow/mlflow.db", "sqlite:///.frontrow/mlflow.db"),
        ("GET http://token@host/api failed: http://host?key=1", "GET http://host/api failed: http://host"),
        ("models:/activity-ranker@champion", "models:/activity-ranker@champion"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


# ---- a registry that cannot be asked


def test_a_registry_that_hangs_is_left_at_the_limit_and_so_is_whatever_it_started(
    cache: Path, tmp_path: Path, fake_mlflow: Callable[[str], None]
) -> None:
    os.mkfifo(tmp_path / "life")
    reader = os.open(tmp_path / "life", os.O_RDONLY | os.O_NONBLOCK)
    fake_mlflow(
        f"life = open({str(tmp_path / 'life')!r}, 'w')\n"
        "print('started', file=life, flush=True)\n"
        "subprocess.Popen(['sleep', '600'], stdout=life)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})\n"
        "time.sleep(600)"
    )
    with pytest.raises(RegistryUnavailable) as refusal:
        ask(cache, timeout_seconds=5)
    assert str(refusal.value) == (
        f"MLflow at {SHOWN} did not answer within 5 s, and there is no last known good bundle of {URI} in {cache}; "
        "start MLflow, or name a bundle folder instead (FRONTROW_CONTROL_MODEL, FRONTROW_TREATMENT_MODEL)"
    )
    os.set_blocking(reader, True)
    with os.fdopen(reader) as life:
        assert life.read() == "started\n"  # ends when nobody is left who could write
    assert list(cache.iterdir()) == []


def test_a_download_that_takes_too_long_is_not_called_a_registry_that_does_not_answer(
    cache: Path, fake_mlflow: Callable[[str], None]
) -> None:
    fake_mlflow("report({'state': 'downloading', 'text': 'the download of models:/x/1'})\ntime.sleep(600)")
    with pytest.raises(RegistryUnavailable, match=r"answered, but the download of models:/x/1 took more than 5 s"):
        ask(cache, timeout_seconds=5)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.abort()", "ended with code -6"),
        ("raise ModuleNotFoundError(\"No module named 'mlflow'\")", "ended with code 1: .*No module named 'mlflow'"),
        ("sys.exit(0)", "ended with code 0: nothing said"),
    ],
)
def test_a_child_that_dies_is_a_registry_that_cannot_be_asked(
    cache: Path, fake_mlflow: Callable[[str], None], code: str, message: str
) -> None:
    fake_mlflow(code)
    with pytest.raises(RegistryUnavailable, match=message) as refusal:
        ask(cache)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_model_that_crashes_the_verification_is_refused_even_with_a_last_known_good(
    cache: Path, known_good: Path, fake_mlflow: Callable[[str], None]
) -> None:
    fake_mlflow(
        "report({'state': 'verifying', 'text': 'the verification of models:/x/1'})\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    with pytest.raises(
        BundleError, match=r"^the verification of models:/x/1 crashed the process that did it: SIGSEGV$"
    ):
        ask(cache)


def test_the_last_known_good_bundle_stands_in_and_says_since_when(
    cache: Path, known_good: Path, fake_mlflow: Callable[[str], None]
) -> None:
    fake_mlflow("sys.exit(1)")
    fetched = ask(cache)
    assert (fetched.folder, fetched.origin, fetched.fetched_at) == (known_good, "last-known-good", GOOD_AT)
    assert fetched.detail.endswith("; activity-ranker/7 was good at 2026-11-20T08:30:00Z")
    assert load_model(fetched.folder).bundle.version == "7"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache, folder: (folder / "model.lgb").write_bytes(b"tree\n"),
        lambda cache, folder: folder.rename(cache / "elsewhere"),
        lambda cache, folder: next((cache / ".last-known-good").iterdir()).write_bytes(b'{"uri": "mod'),
        lambda cache, folder: next((cache / ".last-known-good").iterdir()).write_bytes(b"{}"),
    ],
)
def test_a_damaged_last_known_good_does_not_stand_in(
    cache: Path, known_good: Path, fake_mlflow: Callable[[str], None], spoil: Callable[[Path, Path], object]
) -> None:
    fake_mlflow("sys.exit(1)")
    spoil(cache, known_good)
    with pytest.raises(
        RegistryUnavailable, match="there is no last known good bundle of models:/activity-ranker@champion"
    ):
        ask(cache)


def test_what_one_registry_named_does_not_stand_in_for_another(
    cache: Path, known_good: Path, fake_mlflow: Callable[[str], None]
) -> None:
    fake_mlflow("sys.exit(1)")
    with pytest.raises(RegistryUnavailable, match=r"MLflow at https://staging\.invalid .* no last known good bundle"):
        ask(cache, tracking_uri="https://staging.invalid")
    with pytest.raises(RegistryUnavailable, match="no last known good bundle of models:/activity-ranker@challenger"):
        ask(cache, "models:/activity-ranker@challenger")


def test_without_a_local_database_none_is_made(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RegistryUnavailable, match=r"there is no MLflow database .*mlflow\.db \(`frontrow demo` makes one\)"
    ):
        ask(cache, tracking_uri=f"sqlite:///{tmp_path}/none/mlflow.db")
    assert not (tmp_path / "none").exists()


def test_a_cache_that_cannot_be_written_is_said_to_be_the_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryUnavailable, match=r"the bundle cache .*file/bundles cannot be used: .*Not a directory"):
        ask(tmp_path / "file" / "bundles")


def test_the_workspace_of_a_killed_process_is_swept_away(cache: Path, fake_mlflow: Callable[[str], None]) -> None:
    old, new = cache / ".asking-old", cache / ".asking-new"
    for folder in (old, new):
        (folder / "download").mkdir(parents=True)
    os.utime(old, (time.time() - 4_000,) * 2)
    fake_mlflow("sys.exit(1)")
    with pytest.raises(RegistryUnavailable):
        ask(cache)
    assert [folder.name for folder in cache.iterdir()] == [".asking-new"]


# ---- a real database, asked by the child


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_was_fetched_last_stands_in_when_the_registry_is_gone(
    client: MlflowClient, tracking_uri: str, files: dict[str, bytes], cache: Path, tmp_path: Path
) -> None:
    version = register(client, "fetched", files, tags_of(files))
    client.set_registered_model_alias("fetched", "champion", version)
    uri, before = "models:/fetched@champion", datetime.now(UTC)
    first = ask(cache, uri, tracking_uri)
    assert first.origin == "registry"
    assert first.detail == f"fetched/1 of MLflow at {tracking_uri}, downloaded"
    assert before <= first.fetched_at <= datetime.now(UTC)
    assert load_model(first.folder).bundle.source == "models:/fetched/1"

    database = Path(tracking_uri.removeprefix("sqlite:///"))
    database.rename(tmp_path / "away.db")
    try:
        stale = ask(cache, uri, tracking_uri)
    finally:
        (tmp_path / "away.db").rename(database)
    assert (stale.folder, stale.origin, stale.fetched_at) == (first.folder, "last-known-good", first.fetched_at)

    client.delete_registered_model_alias("fetched", "champion")
    with pytest.raises(ModelNotFound, match=r"has no models:/fetched@champion: .*alias champion not found"):
        ask(cache, uri, tracking_uri)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_that_fetch_the_same_version_at_once_both_get_it(
    client: MlflowClient, tracking_uri: str, files: dict[str, bytes], cache: Path
) -> None:
    register(client, "popular", files, tags_of(files))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: ask(cache, "models:/popular/1", tracking_uri), range(2)))
    assert {one.origin for one in found} == {"registry"}
    assert {one.folder for one in found} == set((cache / "popular").iterdir())
    assert load_model(found[0].folder).bundle.name == "popular"
