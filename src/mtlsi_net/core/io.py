"""Atomic file writing (text, JSON, CSV, binary), and the CSV file of logged metrics."""

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mtlsi_net.core.renamed import current_metric


@contextmanager
def atomic_file(path: Path, keep: Path | None = None, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that replaces it once it is completely written to disk.

    If ``keep`` is set, the replaced file stays under that name. Files that can be recreated may set ``durable=False``:
    they are not synced to disk, and several processes may write the same file at once.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
    """
    temporary = path.with_suffix(".tmp" if durable else f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            _add_name(path, keep)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if not durable:
        return
    with suppress(OSError):  # not every file system syncs folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _add_name(path: Path, name: Path) -> None:
    """Give a file a second name, which stays when ``path`` is replaced."""
    link = name.with_suffix(".link")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, name)
    except OSError:  # no hard links on this file system: for an instant only the second name exists
        os.replace(path, name)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` as JSON; NaN and infinities become null."""
    write_text(path, json.dumps(finite(data), indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file: a header line, then one line per row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV of logged metrics without their empty cells; an incomplete last line is dropped.

    Metrics have their names of today.
    """
    if not path.is_file():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = [
        {current_metric(key): value for key, value in row.items() if key and value} for row in csv.DictReader(lines)
    ]
    return [row for row in rows if "step" in row]


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of logged metrics, with a column for each metric in any of them."""
    columns = sorted({key for row in rows for key in row})
    write_csv(path, columns, ([row.get(key, "") for key in columns] for row in rows))


def flatten(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return ``{"a.b.c": value}`` of nested mappings; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}{separator}{inner}": leaf for inner, leaf in flatten(value, separator).items()}
        else:
            flat[str(key)] = value
    return flat


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value with NaN and infinities as None, and keys as text."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
