"""`frontrow models` and `frontrow release bundle`, as an operator types them."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from registry_models import register, tags_of, write

from registry import load_model
from registry.cache import BundleCache, Question
from registry.cli import bundle, models
from registry.promotion import comparison_tags


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The commands set MLflow up for their process, which is this one here."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, arguments, catch_exceptions=False)


def test_list_is_a_table_of_versions(client: MlflowClient, tracking_uri: str, files: dict[str, bytes]) -> None:
    register(client, "table", files, tags_of(files))
    register(client, "table", files, {})
    client.set_registered_model_alias("table", "champion", "1")
    result = run("list", "--tracking-uri", tracking_uri)
    assert result.exit_code == 0
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["NAME", "VERSION", "ALIASES", "TRAINED", "(UTC)", "NDCG", "RUN", "SHA256"]
    newer, older = (row for row in rows if row.startswith("table "))
    run_id = client.get_model_version("table", "1").run_id
    sha256 = tags_of(files)["sha256"][:8]
    assert older.split() == ["table", "1", "champion", "2026-11-23", "12:00", "0.7123@5", "0.7331@10", run_id, sha256]
    assert newer.split()[:2] == ["table", "2"]
    assert header.index("RUN") == older.index(run_id)


def promote(tracking_uri: str, name: str, version: int, *options: str) -> Result:
    return run("promote", "--name", name, "--version", str(version), "--tracking-uri", tracking_uri, *options)


@pytest.fixture
def contenders(client: MlflowClient, files: dict[str, bytes], request: pytest.FixtureRequest) -> str:
    """A model of three versions, of which the first is live: the second was found better, the third was not."""
    name = request.node.name
    register(client, name, files, {})
    register(client, name, files, comparison_tags("1", "later.parquet, 1,000 queries", 0.02, 0.005, 0.035))
    register(client, name, files, comparison_tags("1", "later.parquet, 1,000 queries", 0.01, -0.002, 0.022))
    client.set_registered_model_alias(name, "champion", "1")
    return name


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_registered_model(name).aliases["champion"])


def test_the_first_champion_needs_no_comparison(
    client: MlflowClient, tracking_uri: str, files: dict[str, bytes]
) -> None:
    register(client, "moved", files, {})
    first = promote(tracking_uri, "moved", 1)
    assert first.stdout == "before: moved@champion is no version\nafter:  moved@champion is version 1\n"


def test_promote_prints_who_had_the_alias_who_has_it_and_why(contenders: str, tracking_uri: str) -> None:
    assert promote(tracking_uri, contenders, 2).stdout.splitlines() == [
        f"before: {contenders}@champion is version 1",
        f"after:  {contenders}@champion is version 2",
        "why:    NDCG@10 +0.0200 (+0.0050 to +0.0350) against version 1 on later.parquet, 1,000 queries",
    ]


def test_what_is_not_better_is_not_promoted(contenders: str, client: MlflowClient, tracking_uri: str) -> None:
    result = promote(tracking_uri, contenders, 3)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: version 3 stays what it is: NDCG@10 +0.0100 (-0.0020 to +0.0220) against version 1 on "
        "later.parquet, 1,000 queries: no better, as far as these queries can tell; --force promotes it\n"
    )
    assert champion(client, contenders) == "1"


def test_force_promotes_and_says_what_it_overrode(contenders: str, client: MlflowClient, tracking_uri: str) -> None:
    result = promote(tracking_uri, contenders, 3, "--force")
    assert result.stdout.splitlines()[-1].startswith("forced: NDCG@10 +0.0100 (-0.0020 to +0.0220)")
    assert champion(client, contenders) == "3"


def test_a_comparison_with_an_earlier_champion_counts_for_nothing(
    contenders: str, client: MlflowClient, tracking_uri: str
) -> None:
    client.set_registered_model_alias(contenders, "champion", "3")
    assert "it was compared with version 1, and version 3 is live now" in promote(tracking_uri, contenders, 2).stderr
    assert "it was never compared with version 3" in promote(tracking_uri, contenders, 1).stderr


def test_other_aliases_move_freely(contenders: str, client: MlflowClient, tracking_uri: str) -> None:
    assert promote(tracking_uri, contenders, 3, "--alias", "challenger").exit_code == 0
    assert str(client.get_registered_model(contenders).aliases["challenger"]) == "3"


def test_the_champion_may_be_promoted_again(contenders: str, tracking_uri: str) -> None:
    assert promote(tracking_uri, contenders, 1).exit_code == 0


def test_promoting_what_is_not_there_ends_with_3_and_one_line(client: MlflowClient, tracking_uri: str) -> None:
    result = run("promote", "--name", "nobody", "--version", "1", "--tracking-uri", tracking_uri)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"Error: MLflow at {tracking_uri} has no models:/nobody/1: ")
    assert result.stderr.count("\n") == 1


def test_list_makes_no_database(tmp_path: Path) -> None:
    result = run("list", "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert result.exit_code == 3
    assert "there is no MLflow database" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_show_tells_everything_about_a_bundle(folder: Path) -> None:
    result = run("show", str(folder))
    assert result.exit_code == 0
    for line in (
        "name:           activity-ranker",
        "trained at:     2026-11-23T12:00:00+00:00",
        f"origin:         bundle: activity-ranker/7 from {folder}",
        "golden rows:    5, every score equal to the last bit",
        "features (5):",
        "  device        context   category  desktop, mobile, tablet",
        f"  model.lgb     {load_model(folder).bundle.sha256}",
    ):
        assert line in result.stdout.splitlines()


def test_show_of_a_damaged_bundle_ends_with_3_and_one_line(folder: Path) -> None:
    (folder / "golden.json").write_text("{}")
    result = run("show", str(folder))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"Error: {folder}/golden.json: sha256 is ")
    assert result.stderr.count("\n") == 1


def test_a_bundle_folder_can_be_copied_and_stays_what_it_is(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(bundle, ["--model", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path}/out: activity-ranker/7, sha256 ")
    assert (tmp_path / "out" / "bundle.json").read_bytes() == (folder / "bundle.json").read_bytes()


def test_a_bundle_is_not_written_over_what_is_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    result = CliRunner().invoke(bundle, ["--model", str(folder), "--out", str(tmp_path / "out")])
    assert (result.exit_code, result.stderr) == (
        3,
        f"Error: {tmp_path}/out is there already; remove it or choose another\n",
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_bundle_says_which_alias_was_asked_for(
    client: MlflowClient, tracking_uri: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    register(client, "packed", files, tags_of(files))
    client.set_registered_model_alias("packed", "champion", "1")
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "bundles")]
    asked = ["--model", "models:/packed@champion", "--tracking-uri", tracking_uri, "--timeout", "200"]
    result = CliRunner().invoke(bundle, [*asked, *places])
    assert result.exit_code == 0, result.stderr
    written = load_model(tmp_path / "out").bundle
    assert (written.source, written.alias, written.version) == ("models:/packed@champion", "champion", "1")


def test_a_release_is_not_packed_from_the_last_known_good(tmp_path: Path, text: bytes) -> None:
    gone = f"sqlite:///{tmp_path}/gone.db"
    cache = BundleCache(tmp_path / "bundles")
    good = write(tmp_path / "bundles" / "activity-ranker" / "7-01234567", text)
    cache.remember(Question("models:/activity-ranker@champion", gone), good.folder, datetime.now(UTC))
    asked = ["--model", "models:/activity-ranker@champion", "--tracking-uri", gone, "--cache", str(cache)]
    result = CliRunner().invoke(bundle, [*asked, "--out", str(tmp_path / "out")])
    assert result.exit_code == 3
    assert "but a release takes only what the registry says now" in result.stderr
    assert not (tmp_path / "out").exists()
