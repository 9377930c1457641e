"""`python -m registry`: the child process in which `registry.fetch` speaks to MLflow."""

import sys

# MLflow does without pandas where it is not installed, and importing that takes longer than all that is asked here.
sys.modules["pandas"] = None  # type: ignore[assignment]

from registry.mlflow_source import main  # noqa: E402 after the line above

main()
