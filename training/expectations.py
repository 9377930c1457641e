"""What a team expects of its own table, as a pandera schema in YAML: types, ranges, allowed texts, missing values.

`pandera.DataFrameSchema.to_yaml` writes such a file. pandera takes seconds to import, so only who has one waits for it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.data_tests import named_rows
from training.errors import TableError
from training.files import Format, form_of, read_arrow


def check_expectations(path: Path, schema: Path, form: Format) -> None:
    """Raise `TableError` with every expectation that the columns of a parquet or CSV file do not meet."""
    os.environ.setdefault("DISABLE_PANDERA_IMPORT_WARNING", "True")
    import pandera.pandas as pandera  # noqa: PLC0415 - as said above

    form = form_of(path) if form == "auto" else form
    if form == "svmlight":
        raise TableError(path, [f"svmlight has no names of columns that {schema.name} could speak of"])
    expected = _read_schema(schema)
    table = read_arrow(path, form).to_pandas()
    try:
        expected.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise TableError(
            path, [f"{fault} ({schema.name})" for fault in _faults(error.failure_cases, len(table))]
        ) from None


def _read_schema(path: Path) -> Any:
    import pandera.pandas as pandera  # noqa: PLC0415

    try:
        return pandera.DataFrameSchema.from_yaml(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TableError(path, [f"not a pandera schema in YAML: {type(error).__name__}: {reason}"]) from error


def _faults(cases: pd.DataFrame, rows: int) -> Iterator[str]:
    """A sentence for each expectation of each column."""
    cases = cases.assign(column=cases["column"].fillna(""))
    for (column, check), failed in cases.groupby(["column", "check"], sort=False):
        where = failed["index"].dropna().astype(int)
        first = failed["failure_case"].iloc[0]
        if check == "column_in_dataframe":
            yield f"column {first!r} is missing"
        elif where.empty:
            yield f"column {column!r} is not {check}: {first}"
        elif check == "not_nullable":
            yield f"column {column!r} is missing in {_named(where, rows)}"
        else:
            yield f"column {column!r} is not {check} in {_named(where, rows)}: {first!r}"


def _named(where: "pd.Series[int]", rows: int) -> str:
    wrong = np.zeros(rows, dtype=bool)
    wrong[where] = True
    return named_rows(wrong)
