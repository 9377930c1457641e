"""Every setting of the service: one frozen object, read once from the environment.

Each field is the variable `FRONTROW_<NAME>`. `docs/settings.md` is generated from this module.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FRONTROW_"


class Unusable(Exception):
    """What the settings name cannot be served. The port was never opened."""


class SettingsError(Exception):
    """A variable is unknown or its value is not allowed. Nothing was started."""


def _basis_points(share: float) -> float:
    if round(share * 10_000) != share * 10_000 and abs(share * 10_000 - round(share * 10_000)) > 1e-6:
        raise ValueError(f"{share} is finer than 0.0001, the smallest share that the split can tell apart")
    return share


Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_basis_points)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=False)

    # Models
    control_model: str = Field(
        "models:/activity-ranker@champion",
        min_length=1,
        description="model of control: `models:/name@alias`, `models:/name/3`, `runs:/id/path` or a bundle folder",
    )
    treatment_model: str = Field(
        "models:/activity-ranker@challenger",
        description="model of treatment; empty: no experiment, every visitor gets control",
    )
    tracking_uri: str | None = Field(
        None, description="MLflow tracking server; unset: `MLFLOW_TRACKING_URI`, else the local `.frontrow/mlflow.db`"
    )
    bundle_cache: Path = Field(
        Path(".frontrow/bundles"), description="folder of downloaded bundles, from which the last known good is served"
    )
    registry_timeout_seconds: float = Field(
        60, gt=0, le=600, description="longest wait for MLflow, at the start and at each look at the models, in seconds"
    )
    model_poll_seconds: float = Field(
        0,
        ge=0,
        le=86_400,
        description="time from one look at the models to the next, in seconds; 0: they are looked at on SIGHUP alone",
    )
    swap_min_kendall_tau: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="least Kendall's tau of a new model against the one that serves, below which it is refused; "
        "unset: any",
    )
    engine: Literal["auto", "reference", "compiled"] = Field(
        "auto", description="scoring engine: `auto` takes the compiled one when it proves equal"
    )
    catalog_budget_mb: int = Field(
        512,
        ge=0,
        le=65_536,
        description="memory for each variant's prepared activities, in MiB; past it plain rows are kept and scored",
    )
    processing: str = Field(
        "app.processing:Processing",
        pattern=r"^[\w.]+:\w+$",
        description="class with the rules around scoring, as `module:Class` (docs/processing.md)",
    )

    # Address and processes
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one and prints it")
    workers: int = Field(1, ge=1, le=64, description="server processes that share the port; one a pod on Kubernetes")

    # The split
    experiment: str = Field(
        "ranker", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="name of the experiment; a new name makes a new split"
    )
    split_salt: str = Field("frontrow", min_length=1, max_length=64, description="salt of the split's hash")
    treatment_share: Share = Field(0.5, description="share of visitors that get treatment, in steps of 0.0001")
    assignment: Literal["split", "interleave"] = Field(
        "split",
        description="what the treatment's share of the visitors gets: treatment, or both models' rankings in one "
        "(docs/experiments.md)",
    )
    fallback_variant: Literal["control", "treatment"] = Field(
        "control", description="variant of a request without a visitor id"
    )
    allow_forced_variant: bool = Field(False, description="whether `X-Variant` may ask for a variant")

    # Limits of a request
    max_candidates: int = Field(5_000, ge=1, le=100_000, description="most candidates in a request; more is 413")
    max_body_bytes: int = Field(1_048_576, ge=1_024, le=67_108_864, description="largest body, in bytes; more is 413")
    body_timeout_seconds: float = Field(
        10, gt=0, le=120, description="longest wait for a request's whole body, in seconds; past it the answer is 408"
    )

    # Histories of visitors, and the activities
    feature_store: str = Field(
        "memory:",
        min_length=1,
        description="where histories are kept: `memory:` (one process), `sqlite:path`, `redis://host:6379/0` or "
        "`feast:repository` (docs/features.md)",
    )
    feature_budget_ms: float = Field(
        10, gt=0, le=1_000, description="longest wait of a ranking for histories, in milliseconds; then it goes without"
    )
    history_days: float = Field(
        30, gt=0, le=30, description="how long an event is kept, in days; models are trained with 30"
    )
    history_events: int = Field(
        50, ge=1, le=50, description="how many events of a visitor are kept, the latest; models are trained with 50"
    )
    catalog: Path | None = Field(
        None,
        description="snapshot of activities to serve in place of those in the bundles; taken anew when it changes",
    )
    catalog_poll_seconds: float = Field(
        5, gt=0, le=3_600, description="time from one look at the snapshot to the next, in seconds"
    )
    max_events: int = Field(1_000, ge=1, le=10_000, description="most events in a request; more is 413")

    # Time
    request_timeout_ms: float = Field(
        100,
        gt=0,
        le=60_000,
        description="longest time from arrival to answer, in milliseconds; `X-Request-Timeout-Ms` can only shorten it",
    )
    max_batch_rows: int = Field(
        4_096, ge=1, le=65_536, description="most rows in a micro-batch; calibration may say fewer"
    )
    pinned_batch_us: float | None = Field(
        None,
        gt=0,
        le=1e7,
        description="microseconds a batch costs whatever its rows; set with `pinned_row_us`, in place of measuring",
    )
    pinned_row_us: float | None = Field(
        None, gt=0, le=1e6, description="microseconds that a row adds to a batch; set with `pinned_batch_us`"
    )
    lame_duck_seconds: float = Field(
        5,
        ge=0,
        le=120,
        description="time from SIGTERM to the end of intake, in seconds: `/readyz` fails, requests are served on",
    )
    drain_seconds: float = Field(
        5, gt=0, le=120, description="longest wait for admitted requests at the end, in seconds"
    )

    # Pages for people
    console: bool = Field(True, description="whether `/` is the console (docs/console.md); it leads to `/docs` if not")

    # What is kept of the traffic
    drift_window_seconds: float = Field(
        3_600,
        ge=60,
        le=604_800,
        description="length of the windows that are compared with training, in seconds; a window lasts until it has "
        "500 rows",
    )
    log_folder: Path | None = Field(
        None, description="folder of the logs of rankings, exposures and feedback (docs/logs.md); unset: none is kept"
    )
    log_folder_mb: int = Field(
        1_024, ge=16, le=1_048_576, description="most that each of these logs takes, in MiB; the oldest files go"
    )
    ranking_log_share: float = Field(0.01, ge=0, le=1, description="share of the rankings that are logged")
    explanations: bool = Field(
        True, description="whether a request may ask why (`explain`): it takes as long as scoring hundreds of rows"
    )
    shadow_share: float = Field(
        0, ge=0, le=1, description="share of the rankings that the other variant's model scores too, to be compared"
    )

    # Identity and logs
    code_version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._+-]{1,64}$",
        description="revision of the code; unset: asked of git, else `unknown`",
    )
    build_time: str | None = Field(None, max_length=40, description="time of the build, ISO 8601; set in the image")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    access_log_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of answered rankings that get an access line; of refusals ten a second do, and each failure",
    )

    @model_validator(mode="after")
    def _pinned_together(self) -> Self:
        if (self.pinned_batch_us is None) != (self.pinned_row_us is None):
            raise ValueError("FRONTROW_PINNED_BATCH_US and FRONTROW_PINNED_ROW_US are set together or not at all")
        return self


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings of this process; an override (a command's option) wins over the environment.

    Raises `SettingsError` that names every variable at fault and what is allowed.
    """
    names = os.environ if environment is None else environment
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in variables())
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no such setting (docs/settings.md lists them)")
    try:
        return Settings(**overrides)
    except pydantic.ValidationError as error:
        raise SettingsError("\n".join(_words(fault) for fault in error.errors())) from None


def _words(fault: ErrorDetails) -> str:
    if not fault["loc"]:  # of several settings together
        return fault["msg"]
    return f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}, got {fault['input']!r}"


def variables() -> dict[str, str]:
    """Name of each environment variable -> name of its field."""
    return {PREFIX + name.upper(): name for name in Settings.model_fields}


def settings_page() -> str:
    """The Markdown of `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable, read once at the start. An unknown `FRONTROW_` variable or a wrong",
        "value stops the start with exit code 2 and names the variable. This page is made by `frontrow settings`.",
        "",
        "| variable | default | allowed | what it is |",
        "|---|---|---|---|",
    ]
    for variable, name in variables().items():
        field = Settings.model_fields[name]
        default = "unset" if field.default is None else f"`{field.default}`" if field.default != "" else "empty"
        lines.append(f"| `{variable}` | {default} | {_allowed(name)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _allowed(name: str) -> str:
    schema = Settings.model_json_schema()["properties"][name]
    kinds = [schema, *schema.get("anyOf", [])]
    words = []
    for kind in kinds:
        if "enum" in kind:
            words.append(", ".join(f"`{value}`" for value in kind["enum"]))
        if kind.get("type") == "boolean":
            words.append("`true`, `false`")
        if "pattern" in kind:
            words.append(f"`{kind['pattern']}`".replace("|", "\\|"))
        lower = kind.get("minimum", kind.get("exclusiveMinimum"))
        if lower is not None and "maximum" in kind:
            words.append(f"{'over ' if 'exclusiveMinimum' in kind else ''}{lower} to {kind['maximum']}")
    return "; ".join(words) or "any"
