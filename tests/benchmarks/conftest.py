"""Models of tests/app for what needs a real service."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "app"))
