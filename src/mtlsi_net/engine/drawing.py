"""Pictures with their legends: single ones, tiles, and grids with a row for each image.

Pillow draws them: at the same sizes, legends and colour bars of matplotlib 3.11 take 20 times (320x240) to 30 times
(1280x960) the processor time, and its legends have a number of columns instead of a width to fill.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlsi_net.data.images import Pixels
from mtlsi_net.tasks.colors import Legend

CELL = 480
"""Width of a sheet's pictures, and the largest of a grid's."""
NARROWEST, GRID = 240, 1920
"""Smallest width of a grid's pictures, and the width of a grid whose pictures are larger."""
FONT, LINE, MARGIN, SWATCH, GAP = 15, 20, 8, 13, 4
MAX_LINES, GRID_LINES = 3, 8
"""Lines of a legend below a picture, and of one below a grid."""
TALLEST = 2000
"""Largest height to which narrow pictures are enlarged."""
Entry = tuple[str, tuple[int, ...] | None]
"""A name of a legend and its colour; None for a note without one."""
INK, PAPER = (20, 20, 20), (255, 255, 255)


def tile(cells: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Return pictures of one width in a grid, by default one of at most three columns."""
    columns = columns or min(3, len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (columns * (cells[0].width + MARGIN) + MARGIN, sum(heights) + MARGIN), PAPER)
    top = MARGIN // 2
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + column * (cells[0].width + MARGIN), top))
        top += height
    return sheet


def draw_cell(picture: Pixels, title: str, legend: Legend, width: int) -> Image.Image:
    """Return a picture (H, W, 3) at a width, its title above and its legend below."""
    image = _at_width(picture, width)
    lines = _lines(legend, width)
    cell = Image.new("RGB", (width, LINE + image.height + LINE * len(lines) + MARGIN), PAPER)
    draw = ImageDraw.Draw(cell)
    draw.text((2, 1), title, INK, _font())
    cell.paste(image, (0, LINE))
    _draw_legend(cell, draw, legend, lines, (0, LINE + image.height + 3))
    return cell


def draw_grid(
    rows: Sequence[Sequence[Pixels]],
    titles: Sequence[str],
    path: str | Path,
    names: Sequence[str] | None = None,
    legends: Mapping[str, Legend] | None = None,
) -> None:
    """Write rows of (H, W, 3) pictures, one for every title, as one PNG.

    ``names`` are written into each row's first picture; ``legends``, title -> legend, stand below the rows.
    """
    width = min(CELL, max(NARROWEST, GRID // len(titles)))
    cells = [[_at_width(picture, width) for picture in row] for row in rows]
    whole = len(titles) * (width + GAP) - GAP
    indent = round(max((_font().getlength(title) for title in legends or ()), default=0)) + 2 * MARGIN
    texts = {title: _lines(legend, whole - indent, GRID_LINES) for title, legend in (legends or {}).items()}
    tops = [LINE]
    for row in cells:
        tops.append(tops[-1] + max(cell.height for cell in row) + GAP)
    sheet = Image.new("RGB", (whole, tops[-1] + sum(LINE * len(lines) for lines in texts.values()) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * (width + GAP) + 2, 1), title, INK, _font())
    for top, row in zip(tops, cells, strict=False):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * (width + GAP), top))
    for top, name in zip(tops, names or (), strict=False):
        draw.rectangle((0, top, _font().getlength(name) + 6, top + LINE), INK)
        draw.text((3, top + 1), name, PAPER, _font())
    top = tops[-1] + 3
    for title, lines in texts.items():
        draw.text((2, top), title, INK, _font())
        _draw_legend(sheet, draw, (legends or {})[title], lines, (indent, top))
        top += LINE * len(lines)
    sheet.save(path)


def _at_width(picture: Pixels, width: int) -> Image.Image:
    """Return a picture at a width; narrow ones are not enlarged beyond ``TALLEST``. Thin lines survive being made smaller."""
    scale = min(width / picture.shape[1], max(1.0, TALLEST / picture.shape[0]))
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    image = Image.fromarray(picture)
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)


def _draw_legend(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    legend: Legend,
    lines: Sequence[Sequence[Entry]],
    place: tuple[int, int],
) -> None:
    """Draw a legend, whose entries are broken into ``lines``, at ``place`` (left, top)."""
    start = place[0] if legend.bar is None else _draw_bar(sheet, draw, legend, place)
    for number, line in enumerate(lines):
        left, top = start + 2.0, place[1] + number * LINE + 2
        for name, color in line:
            if color is not None:
                draw.rectangle((left, top, left + SWATCH, top + SWATCH), color, outline=(120, 120, 120))
            draw.text((left + SWATCH + 4, top - 2), name, INK, _font())
            left += _width(name)


def _draw_bar(sheet: Image.Image, draw: ImageDraw.ImageDraw, legend: Legend, place: tuple[int, int]) -> int:
    """Draw a scale at ``place`` (left, top); return where it ends."""
    assert legend.bar is not None
    (left, top), font = place, _font()
    low, high = (math.ceil(font.getlength(text)) for text in (legend.low, legend.high))
    length = max(20, min(sheet.width - left - low - high - 4 * MARGIN, 240))
    draw.text((left + 2, top), legend.low, INK, font)
    bar = Image.fromarray(np.broadcast_to(legend.bar[None], (SWATCH, *legend.bar.shape)).copy())
    start = left + low + MARGIN
    sheet.paste(bar.resize((length, SWATCH)), (start, top + 2))
    draw.rectangle((start - 1, top + 1, start + length, top + SWATCH + 2), outline=(120, 120, 120))
    draw.text((start + length + MARGIN, top), legend.high, INK, font)
    return start + length + high + 3 * MARGIN


def _lines(legend: Legend, width: int, most_lines: int = MAX_LINES) -> list[list[Entry]]:
    """Return as many entries as fit, line by line, at least one line; the last entry counts the omitted ones."""
    most = min(len(legend.entries), most_lines * width // SWATCH)  # no entry is narrower than its colour
    for count in range(most, -1, -1):
        more: list[Entry] = [(f"and {len(legend.entries) - count} more", None)] if count < len(legend.entries) else []
        lines: list[list[Entry]] = [[]]
        used = 2.0
        for entry in [*legend.entries[:count], *more]:
            if lines[-1] and used + _width(entry[0]) > width:
                lines.append([])
                used = 2.0
            lines[-1].append(entry)
            used += _width(entry[0])
        if len(lines) <= most_lines:
            break
    return lines


@cache
def _width(name: str) -> float:
    return SWATCH + 4 + _font().getlength(name) + 10


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT)
