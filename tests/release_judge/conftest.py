import os

import pytest
from real_prometheus import BINARY


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any("prometheus" in marker.args for marker in item.iter_markers("real")) and BINARY is None:
        if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
            pytest.fail("prometheus is not installed, and CI has to have it")
        pytest.skip("prometheus is not installed")
