"""Pictures of predictions with their legends, and sheets with all predictions of one image.

Pillow draws them: at the same sizes, legends and colour bars of matplotlib 3.11 take 20 times (320x240) to 30 times
(1280x960) the processor time, and its legends have a number of columns instead of a width to fill.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlsi_net.data.images import Pixels
from mtlsi_net.inference.result import Result
from mtlsi_net.tasks.colors import Legend

CELL = 480
"""Width of a sheet's pictures."""
FONT, LINE, MARGIN, SWATCH = 15, 20, 8, 13
MAX_LINES = 3
TALLEST = 2000
"""Largest height to which narrow pictures are enlarged."""
Entry = tuple[str, tuple[int, ...] | None]
"""A name of a legend and its colour; None for a note without one."""
INK, PAPER = (20, 20, 20), (255, 255, 255)


def draw_sheet(result: Result, drawn: Mapping[str, tuple[Pixels, Legend]] | None = None) -> Image.Image:
    """Return image and predictions in a grid, each with its legend; ``drawn``: each task's, if they are there already."""
    drawn = drawn or {name: one.drawn() for name, one in result.items()}
    cells = [(result.image, "image", Legend())]
    cells += [(pixels, name, legend) for name, (pixels, legend) in drawn.items()]
    return tile([draw_cell(picture, title, legend, CELL) for picture, title, legend in cells])


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
    scale = min(width / picture.shape[1], max(1.0, TALLEST / picture.shape[0]))
    height, wide = (max(1, round(side * scale)) for side in picture.shape[:2])
    image = Image.fromarray(picture)
    if image.size != (wide, height):
        image = image.resize((wide, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    lines = _lines(legend, width)
    cell = Image.new("RGB", (width, LINE + height + LINE * len(lines) + MARGIN), PAPER)
    draw = ImageDraw.Draw(cell)
    draw.text((2, 1), title, INK, _font())
    cell.paste(image, (0, LINE))
    below = LINE + height + 3
    if legend.bar is not None:
        _draw_bar(cell, draw, legend, below)
    for number, line in enumerate(lines):
        left = 2.0
        for name, color in line:
            top = below + number * LINE + 2
            if color is not None:
                draw.rectangle((left, top, left + SWATCH, top + SWATCH), color, outline=(120, 120, 120))
            draw.text((left + SWATCH + 4, top - 2), name, INK, _font())
            left += _width(name)
    return cell


def _draw_bar(cell: Image.Image, draw: ImageDraw.ImageDraw, legend: Legend, top: int) -> None:
    assert legend.bar is not None
    low, high = (math.ceil(_font().getlength(text)) for text in (legend.low, legend.high))
    length = max(20, min(cell.width - low - high - 4 * MARGIN, 240))
    draw.text((2, top), legend.low, INK, _font())
    bar = Image.fromarray(np.broadcast_to(legend.bar[None], (SWATCH, *legend.bar.shape)).copy())
    cell.paste(bar.resize((length, SWATCH)), (low + MARGIN, top + 2))
    draw.rectangle((low + MARGIN - 1, top + 1, low + MARGIN + length, top + SWATCH + 2), outline=(120, 120, 120))
    draw.text((low + 2 * MARGIN + length, top), legend.high, INK, _font())


def _lines(legend: Legend, width: int) -> list[list[Entry]]:
    """Return as many entries as fit, line by line; the last entry counts the omitted ones."""
    most = min(len(legend.entries), MAX_LINES * width // SWATCH)  # no entry is narrower than its colour
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
        if len(lines) <= MAX_LINES:
            break
    return lines


@cache
def _width(name: str) -> float:
    return SWATCH + 4 + _font().getlength(name) + 10


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT)
