"""Grids of pictures, and legends below pictures."""

import numpy as np
import pytest
from PIL import Image

from mtlsi_net.engine.drawing import CELL, GAP, LINE, MAX_LINES, _lines, _width, draw_cell, draw_grid
from mtlsi_net.tasks.colors import Legend, scalar_legend

RED, BLUE = (255, 0, 0), (0, 0, 255)


def filled(height, width, color):
    return np.full((height, width, 3), color, np.uint8)


def test_a_grid_has_its_rows_below_each_other_and_its_legends_below_them(tmp_path):
    rows = [[filled(60, 120, RED), filled(60, 120, BLUE)], [filled(100, 50, BLUE), filled(100, 50, RED)]]
    legends = {"left": Legend((("green", (0, 255, 0)),)), "right": scalar_legend(0, 3, "m")}
    draw_grid(rows, ["left", "right"], tmp_path / "grid.png", legends=legends)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape[1] == 2 * CELL + GAP
    first, second = (
        LINE,
        LINE + CELL // 2 + GAP,
    )  # each row as high as its pictures: half as high as wide, twice as high
    for top, height, colors in ((first, CELL // 2, (RED, BLUE)), (second, 2 * CELL, (BLUE, RED))):
        for left, color in zip((0, CELL + GAP), colors, strict=True):
            assert (grid[top : top + height, left : left + CELL] == color).all()
    bottom = second + 2 * CELL + GAP
    assert grid.shape[0] > bottom + 2 * LINE
    assert (grid[bottom : bottom + LINE] == (0, 255, 0)).all(-1).any()
    assert not (grid[bottom + LINE :] == (0, 255, 0)).all(-1).any()
    assert (grid[bottom + LINE :, :, 1] > 200).any()  # viridis' bright end


def test_rows_have_names_and_many_columns_are_narrow(tmp_path):
    row = [filled(24, 24, RED)] * 20
    for name, names in (("plain", None), ("named", ["0001"])):
        draw_grid([row], [str(k) for k in range(20)], tmp_path / f"{name}.png", names)
    plain, named = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "named"))
    assert plain.shape[1] == 20 * 240 + 19 * GAP
    changed = (plain != named).any(-1)
    assert changed[LINE : 2 * LINE, :60].any()
    assert not changed[2 * LINE + 1 :].any()
    assert not changed[:, 100:].any()


def test_thin_lines_survive_being_made_smaller(tmp_path):
    picture = filled(400, 4000, (0, 0, 0))
    picture[:, 1003] = 255
    draw_grid([[picture]], ["line"], tmp_path / "line.png")
    assert np.asarray(Image.open(tmp_path / "line.png"))[LINE + 5].max() > 0


def test_entries_stand_behind_a_scale(tmp_path):
    green = (0, 255, 0)
    legend = Legend(
        ((("no label"), green),), **{key: getattr(scalar_legend(0, 3, "m"), key) for key in ("bar", "low", "high")}
    )
    draw_grid([[filled(50, 100, RED)]], ["depth"], tmp_path / "grid.png", legends={"depth": legend})
    grid = np.asarray(Image.open(tmp_path / "grid.png"))[LINE + CELL // 2 + GAP :]
    swatch = (grid == green).all(-1).any(0).nonzero()[0]
    yellow = ((grid[..., 0] > 220) & (grid[..., 2] < 60)).any(0).nonzero()[0]  # viridis' end
    assert swatch.min() > yellow.max() + 20


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_legends_fill_lines_and_count_what_is_left_out(count):
    entries = tuple((f"class {k:02d}", (k, 0, 0)) for k in range(count))
    lines = _lines(Legend(entries), 480)
    shown = [entry for line in lines for entry in line if entry[1] is not None]
    assert tuple(shown) == entries[: len(shown)]
    left = [name for line in lines for name, color in line if color is None]
    assert left == ([f"and {count - len(shown)} more"] if len(shown) < count else [])
    assert len(lines) <= MAX_LINES
    assert all(sum(_width(name) for name, _ in line) <= 480 for line in lines)
    assert draw_cell(np.zeros((30, 40, 3), np.uint8), "title", Legend(entries), 480).width == 480
