"""MLflow's own warnings, which are not ours to mend."""

from pathlib import Path

import pytest

# A deprecated loader option of SQLAlchemy 2.1, a comparison that pandas 4 changes, and what MLflow says (and otherwise
# silences) about its own types while it is imported.
FROM_MLFLOW = (
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:Operation with range is deprecated",
    "ignore:.*Any type hint is inferred as AnyType",
)


def silence(items: list[pytest.Item], folder: Path, *more: str) -> None:
    """Ignore `FROM_MLFLOW`, and the filters in `more`, in the tests below `folder` alone."""
    for item in items:
        if folder in item.path.parents:
            for warning in (*FROM_MLFLOW, *more):
                item.add_marker(pytest.mark.filterwarnings(warning))
