"""HTML page of a comparison, self-contained (it works offline), and the plots ``scores.png``."""

import base64
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlsi_net.comparison.bootstrap import GAIN, WorstImages, seeds_of
from mtlsi_net.comparison.identity import settings_of
from mtlsi_net.comparison.read import Run, SkippedRun, entry, read_curves
from mtlsi_net.comparison.tables import DIFFERENCE_HEADS, Table, difference_cells, gain_notes, published_cells
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import finite

MAX_PAIRS = 5000
"""Differences that a table's page holds; all of them are in ``pairs.csv``."""

WIDTHS = (1200, 900, 600, 400)
"""Pixels that pictures may be wide; the largest whose sum fits the budget is taken."""

THUMBNAIL = 320
THUMBNAIL_SHARE = 0.25
"""Of the budget for pictures, kept for single images."""

JPEG_QUALITY = 80
IMAGE_FILES = ("images/{}.png", "images/{}.jpg", "JPEGImages/{}.jpg")
"""Where data sets of this suite's layouts keep an image."""

LINE_INCHES, PANEL_INCHES, LETTER_INCHES = 0.15, 2.0, 0.066
"""Of ``scores.png``: height of a line of a row's label, width of a panel, width of a letter of a label."""
LABEL_LETTERS = 36
"""Longest line of a row's label; longer labels take several."""


def write_page(
    path: Path, tables: Sequence[Table], worst: Sequence[WorstImages], skipped: list[SkippedRun], budget: int
) -> None:
    """Write the page; ``budget``: bytes for pictures. Unreadable curves and pictures that do not fit go to ``skipped``."""
    firsts = [group.first for table in tables for group in table.groups]
    runs = [run for table in tables for group in table.groups for run in group.runs]
    grids = {run.name: file for run in firsts if (file := run.folder.pictures / f"{run.stage}.png").is_file()}
    pictures = _embed(grids, int(budget * (1 - THUMBNAIL_SHARE)), WIDTHS)
    for name, grid in grids.items():
        if name not in pictures and cv2.haveImageReader(str(grid)):
            skipped.append(SkippedRun(name, "its pictures do not fit the page; raise page_mb=..."))
    ids = dict.fromkeys(image_id for group in worst for image_id, *_ in group.images)
    files = {i: place for i in ids if (place := _image_file(firsts, i)) is not None}
    content = {
        "tables": [_table(table, [run.name for run in runs]) for table in tables],
        "runs": [_run(run, pictures, skipped) for run in runs],
        "pair_head": DIFFERENCE_HEADS,
        "worst": [group._asdict() for group in worst],
        "thumbnails": _embed(files, int(budget * THUMBNAIL_SHARE), (THUMBNAIL,)),
        "skipped": [vars(item) for item in skipped],
    }
    text = json.dumps(finite(content), separators=(",", ":"), default=str)
    assets = resources.files("mtlsi_net.comparison")
    page = assets.joinpath("page.html").read_text()
    for name in ("page.css", "page.js"):
        page = page.replace(f"/*{name}*/", assets.joinpath(name).read_text())
    page = page.replace("/*data*/", text.replace("<", "\\u003c"))  # no tag can end the script early
    path.write_text(page)


def _table(table: Table, runs: Sequence[str]) -> dict[str, Any]:
    indices = [[runs.index(run.name) for run in group.runs] for group in table.groups]
    operations = published_cells(table)["operations G"]
    return {
        "title": table.title,
        "notes": [*table.notes, *gain_notes(table)],
        "columns": [{"name": n, "heading": head, "best": table.best(n)} for n, head in table.headings.items()],
        "rows": table.of_kind("ours").assign(runs=indices).to_dict("records"),
        "published": table.of_kind("published").assign(operations=operations).to_dict("records"),
        "pairs": difference_cells(table, MAX_PAIRS).to_numpy().tolist(),
    }


def _run(run: Run, pictures: Mapping[str, str], skipped: list[SkippedRun]) -> dict[str, Any]:
    try:
        curves = read_curves(run)
    except UserError as error:
        skipped.append(SkippedRun(run.name, str(error)))
        curves = {}
    seed, settings = run.config.get("seed"), settings_of(run.config)
    return {"name": run.name, "seed": seed, "curves": curves, "settings": settings, "picture": pictures.get(run.name)}


def _image_file(runs: Iterable[Run], image_id: str) -> Path | None:
    """Return the path from which one of the runs read an image, None if the file is gone."""
    roots = dict.fromkeys(Path(str(entry(run.config, "data", "root", default=""))) for run in runs)
    places = (root / place.format(image_id) for root in roots for place in IMAGE_FILES if "/" not in image_id)
    return next((place for place in places if place.is_file()), None)


def _embed(files: Mapping[str, Path], budget: int, widths: Sequence[int]) -> dict[str, str]:
    """Return name -> picture as a data URI, for the readable ones that fit ``budget`` bytes.

    All have the first of the decreasing ``widths`` (pixels) at which they fit, else the last.
    """
    uris: dict[str, str] = {}
    for width in widths:
        uris = {name: uri for name, file in files.items() if (uri := _data_uri(file, width)) is not None}
        if sum(map(len, uris.values())) <= budget:
            break
    totals = accumulate(map(len, uris.values()))
    return {name: uri for (name, uri), total in zip(uris.items(), totals, strict=True) if total <= budget}


def _data_uri(path: Path, width: int) -> str | None:
    """Return a picture as a JPEG of at most ``width`` pixels, None if it cannot be read."""
    picture = cv2.imread(str(path))
    if picture is None:
        return None
    if picture.shape[1] > width:
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def draw_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Draw ``scores.png`` of the first table, ``scores_2.png`` of the second, ...; remove those of an earlier comparison."""
    for old in folder.glob("scores*.png"):
        if re.fullmatch(r"scores(_\d+)?\.png", old.name):
            old.unlink()
    for table in tables:
        ending = f"_{table.number}" if table.number > 1 else ""
        draw_scores(table).savefig(folder / f"scores{ending}.png", dpi=110)


def draw_scores(table: Table) -> Figure:
    """Return one panel for each main metric and the gain: runs as rings, means as dots, intervals as lines.

    Long labels and titles take several lines, and the figure is as large as they need.
    """
    groups, rows = table.groups[::-1], table.of_kind("ours")[::-1]
    names = [*table.columns, *[GAIN] * any(table.gains[group.label].seeds for group in groups)]
    labels = [textwrap.fill(label, LABEL_LETTERS, break_on_hyphens=False) for label in row_labels(list(rows["label"]))]
    lines = [line for label in labels for line in label.splitlines()]
    width = 0.4 + LETTER_INCHES * max(map(len, lines)) + PANEL_INCHES * len(names)
    legend = "rings: runs; dots: mean over seeds; lines: 95 % over images and seeds"
    title = "\n".join(textwrap.fill(part, int(width / LETTER_INCHES * 0.85)) for part in (table.title, legend))
    height = 0.9 + LINE_INCHES * (len(title.splitlines()) + len(lines) + len(labels))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    heights = [len(label.splitlines()) + 1 for label in labels]
    middles = [sum(heights[:row]) + heights[row] / 2 for row in range(len(labels))]
    for axis, name in zip(axes, names, strict=True):
        seeds = [seeds_of(group, table.gains, name) for group in groups]
        _panel(axis, middles, seeds, rows[[f"{name}_low", f"{name}_high"]], factor=100 if name == GAIN else 1)
        axis.set_title(table.headings.get(name, "multi-task gain, %").replace(" ", "\n", 1), fontsize=9)
    if names[-1] == GAIN:
        axes[-1].axvline(0, color="black", linewidth=0.8)
    axes[0].set_yticks(middles, labels, fontsize=8)
    axes[0].set_ylim(0, sum(heights))
    figure.suptitle(title, fontsize=9)
    return figure


def _panel(
    axis: Axes, places: Sequence[float], values: Sequence[Sequence[float]], intervals: pd.DataFrame, factor: float
) -> None:
    for y, scores, interval in zip(places, values, intervals.to_numpy(float), strict=True):
        if scores:
            scores = [factor * value for value in scores]
            axis.plot(factor * interval, (y, y), color="tab:blue", alpha=0.35, linewidth=2)
            axis.plot(scores, [y] * len(scores), "o", markersize=5, markerfacecolor="none", color="tab:gray")
            axis.plot(sum(scores) / len(scores), y, "o", markersize=4, color="tab:blue")
    axis.grid(alpha=0.3)
    axis.tick_params(axis="x", labelsize=8)
    axis.locator_params(axis="x", nbins=4)


def row_labels(labels: Sequence[str]) -> list[str]:
    """Return labels without their common first words; a label with no other words keeps its last one."""
    words = [label.split(" ") for label in labels]
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))))
    return [" ".join(label[shared:]) or label[-1] for label in words]
