"""Settings: read once, refused by name."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import settings as settings_command
from app.settings import SettingsError, read_settings, variables

HOUSE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FRONTROW_")]:
        monkeypatch.delenv(name)


def test_the_defaults_serve_the_demo_on_this_machine_only() -> None:
    settings = read_settings()
    assert settings.host == "127.0.0.1"
    assert settings.control_model == "models:/activity-ranker@champion"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRONTROW_TREATMENT_SHARE", "1.5"),
        ("FRONTROW_TREATMENT_SHARE", "0.00001"),
        ("FRONTROW_TREATMENT_SHARE", "half"),
        ("FRONTROW_PORT", "http"),
        ("FRONTROW_WORKERS", "0"),
        ("FRONTROW_ENGINE", "fastest"),
        ("FRONTROW_PROCESSING", "no-class"),
        ("FRONTROW_CONTROL_MODEL", ""),
        ("FRONTROW_LOG_LEVEL", "loud"),
        ("FRONTROW_TREATMENT_SHAER", "0.5"),
    ],
)
def test_a_wrong_value_or_an_unknown_name_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        read_settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().port = 1  # type: ignore[misc]


def test_every_setting_has_a_description() -> None:
    from app.settings import Settings

    assert all(field.description for field in Settings.model_fields.values())


def test_the_page_of_settings_is_what_the_code_says() -> None:
    printed = CliRunner().invoke(settings_command).output
    assert (HOUSE / "docs" / "settings.md").read_text() == printed, "run: frontrow settings > docs/settings.md"
    assert all(name in printed for name in variables())
