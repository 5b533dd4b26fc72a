"""What the benchmarks' tables share."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table


def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return median, lower and upper quartile."""
    return np.percentile(values, (50, 25, 75))


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], end: str = "\n") -> None:
    """Write rows of equal keys under a header; lines end with ``end``."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)


def print_rows(rows: Sequence[Mapping[str, object]], title: str) -> None:
    """Print rows of equal keys, each as a column under its first value."""
    names = list(rows[0])
    table = Table("", *(str(row[names[0]]) for row in rows), title=title)
    for name in names[1:]:
        table.add_row(name, *(str(row[name]) for row in rows))
    Console().print(table)
