"""`frontrow serve`."""

import sys
from typing import Any

import click

EXIT_SETTINGS = 2
EXIT_UNUSABLE = 3


@click.command()
@click.option("--host", help="Address to listen on (FRONTROW_HOST, 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one (FRONTROW_PORT, 8000).")
@click.option("--workers", type=int, help="Server processes (FRONTROW_WORKERS, 1).")
@click.option("--control", "control_model", metavar="URI", help="Model of the control variant.")
@click.option("--treatment", "treatment_model", metavar="URI", help="Model of the treatment variant; '' for none.")
def serve(**options: Any) -> None:
    """Rank over HTTP, with the models that the settings name.

    A model is models:/name@alias, models:/name/3, runs:/id/path or a bundle folder. Every setting is an environment
    variable FRONTROW_...; docs/settings.md lists them. Exit code 2: a setting is wrong; 3: a model cannot be served.
    """
    from app import server
    from app.settings import SettingsError, Unusable

    try:
        server.serve({name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        click.echo(f"frontrow serve: {error}", err=True)
        sys.exit(EXIT_SETTINGS)
    except Unusable as error:
        click.echo(f"frontrow serve: {error}", err=True)
        sys.exit(EXIT_UNUSABLE)


@click.command()
def settings() -> None:
    """Print every setting with its default and bounds, as the Markdown of docs/settings.md."""
    from app.settings import settings_page

    click.echo(settings_page(), nl=False)
