"""Which engine serves a model: the compiled one when it can and when it has proved equal, else the reference engine."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scoring.engine import Engine, EngineKind
from scoring.errors import NotCompilableError, StaleTablesError
from scoring.model_text import ModelText
from scoring.reference import ReferenceEngine

DEFAULT_BUDGET_BYTES: Final = 256 * 2**20


def load_engine(
    model_text: ModelText,
    kind: EngineKind = "auto",
    *,
    golden_rows: NDArray[np.float64] | None = None,
    tables: Path | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> Engine:
    """Load a validated model into an engine.

    `auto` gives the compiled engine after its scores of `golden_rows` and of some 2,000 adversarial rows were equal to
    the reference engine's, else the reference engine, whose `reason` says what was in the way. `compiled` raises that
    instead: `NotCompilableError`, of which `VerificationError` is one. `tables` is a file of what `tables_file`
    gave, which is used when it holds this model's tables and ignored when it is missing or stale. `budget_bytes` bounds
    them.
    """
    if kind == "reference":
        return ReferenceEngine(model_text, reason="asked for")
    try:
        return _verified(model_text, golden_rows, tables, budget_bytes)
    except NotCompilableError as error:
        if kind == "compiled":
            raise
        return ReferenceEngine(model_text, reason=f"not compiled: {error}")


def tables_file(model_text: ModelText, *, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> bytes | None:
    """What a file of the model's tables holds; None when only the reference engine can serve it."""
    from scoring.tables import build_tables  # noqa: PLC0415 as below
    from scoring.tables_file import encode_tables  # noqa: PLC0415

    try:
        return encode_tables(build_tables(model_text, budget_bytes=budget_bytes), sha256=model_text.sha256)
    except NotCompilableError:
        return None


def _verified(
    model: ModelText, golden_rows: NDArray[np.float64] | None, tables: Path | None, budget_bytes: int
) -> Engine:
    # numba takes half a second to import, which a process with the reference engine alone need not wait for.
    from scoring.compiled import CompiledEngine  # noqa: PLC0415
    from scoring.tables import build_tables  # noqa: PLC0415
    from scoring.tables_file import open_tables  # noqa: PLC0415
    from scoring.verification import adversarial_rows, verify  # noqa: PLC0415

    try:
        found = open_tables(tables, model) if tables else None
    except (FileNotFoundError, StaleTablesError):
        found = None
    engine = CompiledEngine(model, found or build_tables(model, budget_bytes=budget_bytes))
    rows = adversarial_rows(model)
    rows = rows if golden_rows is None else np.concatenate([golden_rows, rows])
    verify(engine, ReferenceEngine(model), rows)
    engine.reason = f"{len(rows)} rows scored as the reference engine scores them"
    return engine
