"""One self-contained page: everything it shows is inside it, and it asks the network for nothing."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mtlsi_net.comparison.cells import gain_notes, operations, pair_cells, remarks, title, unit
from mtlsi_net.comparison.curves import read_curves
from mtlsi_net.comparison.groups import settings_of
from mtlsi_net.comparison.intervals import Difference
from mtlsi_net.comparison.pictures import THUMBNAIL, data_uri, embed, grid_of, image_files
from mtlsi_net.comparison.published import Published
from mtlsi_net.comparison.runs import Left, Run
from mtlsi_net.comparison.tables import Row, Table, heading
from mtlsi_net.comparison.worst import Worst
from mtlsi_net.utils.errors import UserError

MAX_PAIRS = 5000
"""Differences that a table's page holds; all of them are in ``pairs.csv``."""

THUMBNAIL_SHARE = 0.25
"""Of the budget for pictures, kept for single images."""


def write_page(
    path: Path,
    tables: Sequence[Table],
    pairs: Mapping[int, Sequence[Difference]],
    worst: Sequence[Worst],
    left: list[Left],
    budget: int,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        tables: at least one.
        pairs: index of a table -> differences between its rows.
        worst: single images on which rows differ most.
        left: what is not in the tables; broken curves and pictures without a place are added.
        budget: bytes that pictures may take in all.
    """
    rows = [row for table in tables for row in table.rows]
    index = {id(run): number for number, run in enumerate(run for row in rows for run in row.group.runs)}
    firsts = {row.group.first.name: grid for row in rows if (grid := grid_of(row.group.first)) is not None}
    pictures, homeless = embed(firsts, int(budget * (1 - THUMBNAIL_SHARE)))
    left += [Left(name, "its pictures found no place; page_mb=... gives more") for name in homeless]
    runs = [_run(run, pictures, left) for row in rows for run in row.group.runs]
    found = {
        "tables": [_table(tables, number, pairs.get(number, ()), index) for number in range(len(tables))],
        "runs": runs,
        "pair_head": pair_cells(())[0],
        "worst": [entry._asdict() for entry in worst],
        "thumbnails": _thumbnails(rows, worst, int(budget * THUMBNAIL_SHARE)),
        "left": [{"what": item.what, "why": item.why} for item in left],
    }
    text = json.dumps(_plain(found), separators=(",", ":")).replace("<", "\\u003c")  # no tag can end the script early
    page = _part("page.html").replace("/*CSS*/", _part("page.css")).replace("/*JS*/", _part("page.js"))
    path.write_text(page.replace("/*DATA*/", text))


def _part(name: str) -> str:
    return resources.files("mtlsi_net.comparison").joinpath(name).read_text()


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return JSON values alone: NaN and infinities become null, what YAML made of dates its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _table(
    tables: Sequence[Table], number: int, pairs: Sequence[Difference], index: Mapping[int, int]
) -> dict[str, Any]:
    table = tables[number]
    columns = table.columns()
    return {
        "title": title(tables, number),
        "notes": [*table.notes, *gain_notes(table.rows)],
        "columns": [{"name": heading(key, higher), "best": table.best(key)} for key, higher in columns.items()],
        "rows": [_row(row, table, index) for row in table.rows],
        "published": [_published(result, table) for result in table.published],
        "pairs": pair_cells(pairs[:MAX_PAIRS])[1:],
    }


def _row(row: Row, table: Table, index: Mapping[int, int]) -> dict[str, Any]:
    sizes = ("parameters_m", "decoder_parameters_m", "gflop", "decoder_gflop")
    cells = []
    for key in table.columns():
        low, high = row.intervals.scores.get(key, (math.nan, math.nan))
        cells.append({"mean": row.group.mean(key), "std": row.group.deviation(key), "low": low, "high": high})
    low, high = row.intervals.gain
    return {
        "label": row.group.label,
        "n": len(row.group.runs),
        **{key: row.size(key) for key in sizes},
        "training_speed": row.training_speed,
        "cells": cells,
        "gain": {"mean": row.gain.value, "std": row.gain.deviation, "low": low, "high": high},
        "why": row.gain.why,
        "runs": [index[id(run)] for run in row.group.runs],
    }


def _published(result: Published, table: Table) -> dict[str, Any]:
    size = result.size
    return {
        "model": result.model,
        "backbone": result.backbone,
        "parameters_m": None if size is None else size.parameters_m,
        "decoder_parameters_m": None if size is None else size.decoder_parameters_m,
        "operations": operations(result),
        "unit": unit(result),
        "decoder_operations": None if size is None else size.decoder_operations_g,
        "values": [result.scores.get(key) for key in table.columns()],
        "remarks": remarks(result, table),
    }


def _run(run: Run, pictures: Mapping[str, str], left: list[Left]) -> dict[str, Any]:
    try:
        curves = read_curves(run)
    except UserError as error:
        left.append(Left(run.name, str(error)))
        curves = {}
    seed, settings = run.config.get("seed"), settings_of(run.config)
    return {"name": run.name, "seed": seed, "curves": curves, "settings": settings, "picture": pictures.get(run.name)}


def _thumbnails(rows: Sequence[Row], worst: Sequence[Worst], budget: int) -> dict[str, str]:
    """Return id -> image, of the worst ones that can be read where a run read them, as far as the budget goes."""
    ids = list(dict.fromkeys(sample_id for entry in worst for sample_id, *_ in entry.images))
    found: dict[str, str] = {}
    files: dict[str, Path] = {}
    for row in rows:
        files = image_files(row.group.first, ids) | files
    for sample_id, path in files.items():
        uri = data_uri(path, THUMBNAIL)
        if uri is not None and sum(map(len, found.values())) + len(uri) <= budget:
            found[sample_id] = uri
    return found
