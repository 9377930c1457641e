"""What docs/protocols.md shows works as it stands there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_models import FEATURES
from mlflow_noise import FROM_MLFLOW
from processes import HOUSE
from processes import serving as serving_process
from whole_rows import expected

from app.inference_pages import router

PAGE = (HOUSE / "docs" / "protocols.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

pytestmark = [pytest.mark.filterwarnings(warning) for warning in FROM_MLFLOW]


def test_the_examples_of_the_page_score_rows_of_which_nothing_is_known(bundles: Path) -> None:
    with serving_process(bundles, log_level="error") as process:
        found: dict[str, Any] = {}
        for example in EXAMPLES:
            port = process.url.rsplit(":", 1)[1]
            exec(example.replace("8000", port), found)
        found["client"].close()
    nothing = np.full((3, len(FEATURES)), np.nan)
    assert found["scores"].tobytes() == expected(bundles / "control", nothing)
    assert found["predictions"][0].to_numpy().tobytes() == expected(bundles / "control", nothing[:2])


def test_the_page_names_every_path_of_the_protocols() -> None:
    named = set(re.findall(r"(?:GET|POST) (/[\w/{}]*)", PAGE))
    paths = {route.path.replace("model_name", "name") for route in router.routes}  # type: ignore[attr-defined]
    assert paths <= named
    assert "/invocations" in named
