import os
import shutil

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any("prometheus" in marker.args for marker in item.iter_markers("real")) and shutil.which("promtool") is None:
        if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
            pytest.fail("prometheus is not installed, and CI has to have it")
        pytest.skip("prometheus is not installed")
