"""Run by `python save.py inline|catalog`: writes the model in MLflow's format to the folder of that name."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import lightgbm
import mlflow.lightgbm
import mlflow.pyfunc
from reference_model import Floats, ReferenceModel


class KnownActivities(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.model = ReferenceModel()

    def predict(self, context: Any, model_input: dict[str, Any], params: Any = None) -> Floats:
        return self.model.score(self.model.known(model_input["context"], model_input["ids"]))


if __name__ == "__main__":
    workload = sys.argv[1]
    shutil.rmtree(workload, ignore_errors=True)
    if workload == "inline":
        booster = lightgbm.Booster(model_file=str(Path(os.environ["PEER_MODEL"]) / "model.lgb"))
        mlflow.lightgbm.save_model(booster, workload, pip_requirements=[])
    else:
        mlflow.pyfunc.save_model(workload, python_model=KnownActivities(), pip_requirements=[])
