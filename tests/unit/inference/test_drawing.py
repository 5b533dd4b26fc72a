"""Legends below pictures."""

import numpy as np
import pytest

from mtlsi_net.inference.drawing import MAX_LINES, _lines, _width, draw_cell
from mtlsi_net.tasks.colors import Legend


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
