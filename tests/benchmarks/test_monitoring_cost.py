"""`python -m benchmarks.monitoring_cost` from the outside, with real processes."""

import re
from pathlib import Path

import msgspec
import pytest
from app_models import write_models
from click.testing import CliRunner, Result

from benchmarks.monitoring_cost import main
from registry import read_bundle, write_bundle
from training.profile import profile

BEGIN, END = "<!-- monitoring:begin -->", "<!-- monitoring:end -->"


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start fast, and do not measure what scoring costs on a busy machine."""
    for name, value in {"ENGINE": "reference", "PINNED_BATCH_US": "100", "PINNED_ROW_US": "1"}.items():
        monkeypatch.setenv(f"FRONTROW_{name}", value)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `control`, without a profile, and `watched`, with one."""
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    plain = read_bundle(folder / "control")
    golden = plain.golden()
    write_bundle(
        folder / "watched",
        model_text=plain.read("model.lgb"),
        features=plain.features,
        golden_rows=golden.rows,
        example=plain.example,
        name=plain.name,
        version=plain.version,
        source=plain.source,
        trained_at=plain.trained_at,
        profile=msgspec.json.encode(profile(plain.features, golden.rows, golden.scores)),
        catalog=plain.read("catalog.parquet"),
    )
    return folder


def run(bundle: Path, *options: str) -> Result:
    light = ("--starts", "1", "--rounds", "2", "--seconds", "0.5", "--connections", "2", "--turns", "3")
    return CliRunner().invoke(main, [str(bundle), *light, *options])


@pytest.mark.slow
def test_drift_and_shadow_are_paired_with_what_does_not_watch(bundles: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    result = run(bundles / "watched", "--only", "drift", "--only", "shadow", "--write", str(page))
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line.startswith(("| drift", "| shadow"))]
    assert len(rows) == 2
    assert all(len(re.findall(r"\| \d+\.\d+ \(\d+\.\d+ to \d+\.\d+\) ", row)) == 2 for row in rows)
    assert re.search(r"A watch adds -?\d+\.\d+ µs .* the median of 3 turns", result.stdout)
    assert "in 1 stretches of a second" in result.stdout
    assert "The generator took" in result.stdout
    assert page.read_text() == f"before\n{BEGIN}\n{result.stdout}{END}\nafter\n"


@pytest.mark.slow
def test_scrapes_are_timed_while_rankings_are_answered(bundles: Path) -> None:
    result = run(bundles / "watched", "--only", "scrapes")
    assert result.exit_code == 0, result.output
    found = re.search(r"^(\d+) scrapes of (\d+) KiB at ([\d,]+) rankings a second", result.stdout, re.MULTILINE)
    assert found is not None
    assert all(int(number.replace(",", "")) > 0 for number in found.groups())


def test_a_bundle_without_a_profile_cannot_be_watched(bundles: Path) -> None:
    result = run(bundles / "control", "--only", "drift")
    assert result.exit_code == 1
    assert "it takes a bundle with profile.json" in result.stderr


def test_a_page_without_markers_is_said_to_be_one(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no place\n")
    result = run(bundles / "watched", "--only", "scrapes", "--write", str(tmp_path / "page.md"))
    assert result.exit_code == 1
    assert f"there is no {BEGIN}" in result.stderr
