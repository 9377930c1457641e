"""Real input, all the way: a learning-to-rank set is trained, registered, loaded from MLflow, and ranked over HTTP."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import lightgbm
import numpy as np
import pytest
from processes import HOUSE, serving

from training.metrics import ndcg
from training.tables import RankingTable, read_table

LETOR = Path(os.environ.get("LETOR_FOLDER", HOUSE.parent / "shared" / "data" / "letor"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("letor"),  # they share a model that takes half a minute to train
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (LETOR / "rank.train").exists(), reason="no learning-to-rank data (set LETOR_FOLDER)"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a local MLflow that holds the model, and what `frontrow train` printed."""
    folder = tmp_path_factory.mktemp("letor")
    options = ["--name", "letor", "--alias", "champion", "--threads", "1"]  # spinning threads starve a busy machine
    command = ["train", LETOR / "rank.train", "--test", LETOR / "rank.test", *options]
    done = subprocess.run(
        [sys.executable, "-m", "frontrow", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HOUSE)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def bodies(table: RankingTable, names: list[str]) -> list[dict[str, object]]:
    """One request a query; a candidate's id is its row."""
    matrix = np.column_stack([column.to_numpy() for column in table.columns.columns])
    return [
        {
            "candidates": [
                {"id": str(row), "features": dict(zip(names, matrix[row].tolist(), strict=True))}
                for row in range(start, start + size)
            ]
        }
        for start, size in zip(table.starts.tolist(), table.sizes.tolist(), strict=True)
    ]


def test_a_real_ranking_set_is_served_with_the_scores_and_the_ndcg_of_booster_predict(
    trained: tuple[Path, str],
) -> None:
    folder, printed = trained
    settings = {"control_model": "models:/letor@champion", "treatment_model": "", "registry_timeout_seconds": 120}
    with serving(folder, **settings) as process:
        described = httpx.get(f"{process.url}/v1/models").json()["models"][0]
        names = [feature["name"] for feature in described["features"]]
        table = read_table(LETOR / "rank.test", width=len(names))
        over_http = np.full(table.rows, np.nan)
        for body in bodies(table, names):
            answer = httpx.post(f"{process.url}/v1/rank", json=body, timeout=30)
            assert answer.status_code == 200, answer.text
            for place in answer.json()["ranking"]:
                over_http[int(place["id"])] = place["score"]

    model = next((folder / ".frontrow" / "bundles").rglob("model.lgb"))
    matrix = np.column_stack([column.to_numpy() for column in table.columns.columns])
    predicted = np.asarray(lightgbm.Booster(model_file=str(model)).predict(matrix, num_threads=1))
    assert (table.queries, table.rows) == (50, 768)
    assert over_http.tobytes() == predicted.tobytes()

    served, offline = (float(ndcg(table.labels, scores, table.sizes, 5).mean()) for scores in (over_http, predicted))
    print(f"NDCG@5 on rank.test: {served:.4f} over HTTP, {offline:.4f} offline\n{printed}")
    assert served == offline
    assert served >= 0.65


def test_without_mlflow_the_last_known_good_bundle_serves_and_says_so(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    settings = {"control_model": "models:/letor@champion", "treatment_model": "", "registry_timeout_seconds": 120}
    with serving(folder, **settings) as process:
        fresh = httpx.get(f"{process.url}/readyz").json()
        assert fresh == {"ready": True, "missing": [], "notes": []}
    database = folder / ".frontrow" / "mlflow.db"
    database.rename(folder / "elsewhere.db")
    try:
        with serving(folder, **settings) as process:
            ready = httpx.get(f"{process.url}/readyz")
            metrics = httpx.get(f"{process.url}/metrics").text
            answer = httpx.post(f"{process.url}/v1/rank", json={"candidates": ["a"]})
    finally:
        (folder / "elsewhere.db").rename(database)
    assert (ready.status_code, answer.status_code) == (200, 200)
    assert "last known good" in ready.json()["notes"][0]
    assert 'frontrow_model_last_known_good{variant="control"} 1.0' in metrics
