import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from ranking_tables import sessions, write

from training.cli import demo, train
from training.demo import Size, make_marketplace
from training.register import aliases

pytestmark = pytest.mark.xdist_group("training_store")  # its first migration takes seconds: once is enough

HOUSE = Path(__file__).parents[2]
LETOR = Path(os.environ.get("LETOR_FOLDER") or HOUSE.parent / "shared" / "data" / "letor")
QUICK = ("--rounds", "20", "--leaves", "7", "--min-rows-in-leaf", "5", "--threads", "1")


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_train_tells_what_it_learned_and_what_it_registered(
    store: MlflowClient, tracking_uri: str, tmp_path: Path
) -> None:
    table, later = write(tmp_path, "sessions.csv", sessions()), write(tmp_path, "later.csv", sessions(seed=6))
    result = run(train, table, *QUICK, "--test", later, "--name", "told", "--tracking-uri", tracking_uri)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "sessions.csv: 320 rows in 40 queries, 6 features"
    assert lines[1] == "context: device, days"
    assert lines[2].startswith("best round: ")
    assert lines[3].startswith("held out   NDCG@1 ")
    assert lines[4].startswith("later.csv  NDCG@1 ")
    assert "registered models:/told/1 with alias challenger" in lines
    assert lines[-1] == "next: frontrow models promote --name told --version 1"
    version = store.get_model_version("told", "1")
    assert float(version.tags["test_ndcg_at_5"]) > 0.5
    assert aliases(store, "told") == {"challenger": "1"}


def test_train_finds_its_columns_by_the_names_given(tracking_uri: str, tmp_path: Path) -> None:
    table = sessions().rename_columns({"query": "session", "label": "stars"})
    arguments = ("--query-column", "session", "--label-column", "stars", "--ignore", "reviews, refund", *QUICK)
    path = write(tmp_path, "sessions.parquet", table)
    result = run(train, path, *arguments, "--context", "device", "--name", "named", "--tracking-uri", tracking_uri)
    assert result.exit_code == 0, result.output
    assert "40 queries, 4 features\ncontext: device\n" in result.stdout


def test_train_compares_with_the_champion_on_the_table_that_decides_nothing(
    store: MlflowClient, tracking_uri: str, tmp_path: Path
) -> None:
    table, later = write(tmp_path, "sessions.csv", sessions()), write(tmp_path, "later.csv", sessions(seed=6))
    arguments = (table, "--test", later, "--name", "compared", "--tracking-uri", tracking_uri)
    first = run(train, *arguments, *QUICK, "--alias", "champion")
    assert "against" not in first.stdout
    second = run(train, *arguments, *QUICK)
    assert second.exit_code == 0, second.output
    assert "against live version 1 on later.csv, 40 queries: NDCG@10 " in second.stdout
    assert "+0.0000 (+0.0000 to +0.0000)" in second.stdout
    tags = store.get_model_version("compared", "2").tags
    assert (tags["compared_with"], tags["compared_on"]) == ("1", "later.csv, 40 queries")
    assert float(tags["ndcg_at_10_gain"]) == 0


def test_train_goes_on_without_a_comparison_that_cannot_be_made(
    store: MlflowClient, tracking_uri: str, tmp_path: Path
) -> None:
    table = write(tmp_path, "sessions.csv", sessions())
    arguments = (table, *QUICK, "--name", "uncompared", "--tracking-uri", tracking_uri)
    assert run(train, *arguments, "--alias", "champion").exit_code == 0
    second = run(train, *arguments, "--ignore", "device")
    assert second.exit_code == 0, second.output
    assert "not compared with the champion: sessions.csv: feature 'device' is missing" in second.stderr
    assert "compared_with" not in store.get_model_version("uncompared", "2").tags


def test_a_schema_is_checked_before_anything_else(tmp_path: Path) -> None:
    schema = tmp_path / "schema.yaml"
    schema.write_text("schema_type: dataframe\ncolumns: {price: {nullable: true, checks: {less_than: 50}}}\n")
    result = run(train, write(tmp_path, "sessions.csv", sessions()), "--schema", schema)
    assert result.exit_code == 1
    assert "sessions.csv: column 'price' is not less_than(50) in rows " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--events", "events.parquet"), "--events needs --time-column and --catalog"),
        (("--ablation",), "--ablation needs --events and --test"),
    ],
)
def test_history_needs_to_be_told_what_it_is_made_of(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    table = write(tmp_path, "events.parquet", sessions())
    result = run(train, table, *[str(tmp_path / one) if one.endswith("parquet") else one for one in arguments])
    assert result.exit_code == 2
    assert expected in result.stderr


def test_train_adds_history_and_tells_what_it_is_worth(tracking_uri: str, tmp_path: Path) -> None:
    market = make_marketplace(tmp_path, Size(activities=360, visitors=60, sessions=240))
    arguments = (market.sessions, "--test", market.latest, "--time-column", "shown_at", "--catalog", market.catalog)
    history = ("--events", market.events, "--ablation")
    result = run(train, *arguments, *history, *QUICK, "--name", "past", "--tracking-uri", tracking_uri)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "sessions.parquet: 4,000 rows in 200 queries, 30 features"
    start = next(place for place, line in enumerate(lines) if line.startswith("history features"))
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 5]] == [
        "no history",
        "of the visitor",
        "of visitor and activity",
        "all",
    ]


def test_a_bad_table_is_a_line_for_each_fault_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("query,label,price\n1,-1,inf\n1,1,2\n")
    result = run(train, path)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: bad.csv: column 'label' is negative in row 1",
        "bad.csv: column 'price' is infinite in row 1",
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "expected"),
    [
        (("--leaves", "1"), 2, "1 is not in the range 2<=x<=4096"),
        (("--learning-rate", "0"), 2, "0.0 is not in the range 0<x<=1"),
        (("--context", "weather"), 1, "context column 'weather' is missing"),
        (("--ignore", "weather"), 1, "column 'weather' is missing"),
        (("--name", "no/slash"), 1, "'models:/no/slash@challenger' names no model"),
        (("--tracking-uri", "nonsense://"), 1, "nonsense"),
    ],
)
def test_a_wrong_option_is_refused_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], exit_code: int, expected: str
) -> None:
    result = run(train, write(tmp_path, "sessions.csv", sessions()), *arguments)
    assert result.exit_code == exit_code
    assert expected in result.stderr
    assert "Traceback" not in result.output


def test_demo_registers_two_models_once(store: MlflowClient, tmp_path: Path, tracking_uri: str) -> None:
    arguments = ("--sessions", 240, "--folder", tmp_path, "--tracking-uri", tracking_uri)
    first = run(demo, *arguments)
    assert first.exit_code == 0, first.output
    assert aliases(store, "activity-ranker") == {"champion": "1", "challenger": "2"}
    assert "against live version 1 on latest.parquet, 40 queries: NDCG@10 " in first.stdout
    assert "\nhistory features: NDCG@10 " in first.stdout
    assert store.get_model_version("activity-ranker", "2").tags["compared_with"] == "1"
    second = run(demo, *arguments)
    assert "champion is models:/activity-ranker/1" in second.stdout
    assert aliases(store, "activity-ranker") == {"champion": "1", "challenger": "2"}
    forced = run(demo, *arguments, "--force")
    assert forced.exit_code == 0, forced.output
    assert aliases(store, "activity-ranker") == {"champion": "3", "challenger": "4"}
    digests = [store.get_model_version("activity-ranker", version).tags["sha256"] for version in "1234"]
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


@pytest.mark.slow
@pytest.mark.skipif(not (LETOR / "rank.train").exists(), reason="no learning-to-rank data (set LETOR_FOLDER)")
def test_the_defaults_rank_real_data_well(store: MlflowClient, tracking_uri: str) -> None:
    arguments = ("--threads", 1, "--test", LETOR / "rank.test", "--name", "letor", "--tracking-uri", tracking_uri)
    result = run(train, LETOR / "rank.train", *arguments)
    assert result.exit_code == 0, result.output
    assert float(store.get_model_version("letor", "1").tags["test_ndcg_at_5"]) >= 0.65
