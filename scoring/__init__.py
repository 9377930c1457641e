"""A LightGBM model as a function from rows to scores, exact to the last bit."""

from scoring.engine import Engine, EngineKind
from scoring.errors import NotCompilableError, RowsError, StaleTablesError, VerificationError
from scoring.loading import load_engine, tables_file
from scoring.model_text import ModelText, ModelTextError, Tree, parse_model_text
from scoring.reference import ReferenceEngine

__all__ = [
    "Engine",
    "EngineKind",
    "ModelText",
    "ModelTextError",
    "NotCompilableError",
    "ReferenceEngine",
    "RowsError",
    "StaleTablesError",
    "Tree",
    "VerificationError",
    "load_engine",
    "parse_model_text",
    "tables_file",
]
