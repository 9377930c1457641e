"""The one door: `frontrow` mounts the commands that each room owns.

A room is imported when one of its commands runs, so `frontrow serve` never pays for MLflow and `frontrow --help`
answers at once.
"""

import importlib
import importlib.metadata
import os

import click

COMMANDS = {
    "serve": "app.cli",
    "settings": "app.cli",
    "train": "training.cli",
    "demo": "training.cli",
    "models": "registry.cli",
    "catalog": "features.cli",
    "release": "release.cli",
    "canary": "release.canary_cli",
    "drift": "monitoring.cli",
    "replay": "monitoring.cli",
    "experiment": "monitoring.cli",
    "bench": "benchmarks.cli",
}


def _version() -> str:
    """The package's version; in an image, where the code is copied and not installed, its revision."""
    try:
        return importlib.metadata.version("frontrow")
    except importlib.metadata.PackageNotFoundError:
        return os.environ.get("FRONTROW_CODE_VERSION", "unknown")


class Door(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.command(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version())
def main() -> None:
    """Frontrow ranks activities for one visitor, now."""


if __name__ == "__main__":
    main()
