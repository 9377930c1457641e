"""Small ranking tables that tests train on, written as files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

QUERIES = 40
ROWS = 8


def sessions(queries: int = QUERIES, rows: int = ROWS, seed: int = 5) -> pa.Table:
    """A table with context (device, days), activity features of every type, missing values and learnable labels."""
    rng = np.random.default_rng(seed)
    total = queries * rows
    device = np.repeat(rng.choice(["desktop", "mobile"], queries), rows)
    price = rng.gamma(2, 20, total).round(2)
    kind = rng.choice(["boat", "food", "museum"], total)
    wish = rng.normal(size=total) - price / 30 + 2 * ((kind == "food") & (device == "mobile"))
    return pa.table(
        {
            "query": np.repeat(np.arange(queries), rows),
            "label": np.clip(np.round(wish + 1), 0, 3).astype(np.int64),
            "device": device,
            "days": np.repeat(rng.integers(0, 30, queries), rows),
            "kind": pa.array(kind, mask=rng.random(total) < 0.1),
            "price": pa.array(price, mask=rng.random(total) < 0.1),
            "reviews": rng.integers(0, 500, total),
            "refund": rng.random(total) < 0.5,
        }
    )


def write(folder: Path, name: str, table: pa.Table) -> Path:
    path = folder / name
    if name.endswith(".csv"):
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def write_svmlight(path: Path, matrix: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> Path:
    """Zeros are left out, as in files from elsewhere."""
    lines = []
    for label, row in zip(labels, matrix, strict=True):
        cells = " ".join(f"{index}:{value!r}" for index, value in enumerate(row.tolist()) if value != 0)
        lines.append(f"{label} {cells}".strip())
    path.write_text("\n".join(lines) + "\n")
    path.with_name(path.name + ".query").write_text("".join(f"{size}\n" for size in sizes))
    return path
