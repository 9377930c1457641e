"""Nothing points back: which room may import which, as the house plan draws it."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
CLIENT = HOUSE / "clients" / "python" / "frontrow_client"

MAY_IMPORT = {
    "batching": set(),
    "scoring": set(),
    "features": set(),
    "registry": {"scoring"},
    "training": {"registry", "features", "scoring"},
    "release": {"registry"},
    "monitoring": {"registry", "features", "scoring"},
    "app": {"batching", "registry", "features", "monitoring", "scoring"},
    # What watching costs is measured from within: two services differ by more than that.
    "benchmarks": {"app", "batching", "features", "registry", "release", "scoring"},
}
STANDARD_LIBRARY_ONLY = {"batching"}
WITHOUT_MLFLOW_AND_PANDAS = {"app", "batching", "scoring", "features"}

MODULES = sorted(path for room in MAY_IMPORT for path in (HOUSE / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything that the module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_room_imports_only_what_the_plan_allows(path: Path) -> None:
    room = path.relative_to(HOUSE).parts[0]
    ours = imported(path) & MAY_IMPORT.keys()
    assert ours - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_the_serving_rooms_know_neither_mlflow_nor_pandas(path: Path) -> None:
    room = path.relative_to(HOUSE).parts[0]
    if room in WITHOUT_MLFLOW_AND_PANDAS:
        assert not imported(path) & {"mlflow", "pandas", "sklearn"}


def test_the_client_needs_httpx_alone_and_no_room_knows_it() -> None:
    import sys

    for path in CLIENT.rglob("*.py"):
        assert imported(path) <= sys.stdlib_module_names | {"httpx", "frontrow_client"}
    for path in MODULES:
        assert "frontrow_client" not in imported(path)


def test_the_batcher_needs_the_standard_library_only() -> None:
    import sys

    for room in STANDARD_LIBRARY_ONLY:
        for path in (HOUSE / room).rglob("*.py"):
            assert imported(path) <= sys.stdlib_module_names | {room}


def test_every_room_has_modules_to_look_at() -> None:
    assert {path.relative_to(HOUSE).parts[0] for path in MODULES} >= {
        "app",
        "batching",
        "scoring",
        "features",
        "registry",
    }
