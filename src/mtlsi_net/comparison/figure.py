"""The tables as a picture: where every run stands."""

import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlsi_net.comparison.cells import title
from mtlsi_net.comparison.intervals import Interval
from mtlsi_net.comparison.tables import Table, heading

matplotlib.use("Agg")

ROW_INCHES, PANEL_INCHES, LABEL_INCHES = 0.24, 2.0, 2.6


def draw_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Draw ``scores.png`` of the first table, ``scores_2.png`` of the second, ...; those of an earlier comparison go."""
    for old in folder.glob("scores*.png"):
        old.unlink()
    for index, table in enumerate(tables):
        _draw(folder / f"scores{f'_{index + 1}' * (index > 0)}.png", table, title(tables, index))


def _draw(path: Path, table: Table, name: str) -> None:
    """Draw one panel for each main metric and the gain: runs as rings, means as dots, intervals over images as lines."""
    rows, columns = table.rows[::-1], table.columns()
    has_gain = any(row.gain.seeds for row in rows)
    count = len(columns) + has_gain
    size = (LABEL_INCHES + PANEL_INCHES * count, 1.1 + ROW_INCHES * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axis, (key, higher) in zip(axes, columns.items(), strict=False):
        values = [row.group.values(key) for row in rows]
        _panel(axis, values, [row.intervals.scores.get(key, (math.nan, math.nan)) for row in rows])
        axis.set_title(heading(key, higher), fontsize=9)
    if has_gain:
        intervals = [(100 * row.intervals.gain[0], 100 * row.intervals.gain[1]) for row in rows]
        _panel(axes[-1], [[100 * value for value in row.gain.seeds] for row in rows], intervals)
        axes[-1].set_title("multi-task gain, %", fontsize=9)
        axes[-1].axvline(0, color="black", linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), row_labels([row.group.label for row in rows]), fontsize=8)
    figure.suptitle(f"{name}: runs (rings), mean over seeds (dots), 95 % over images (lines)", fontsize=9)
    figure.savefig(path, dpi=110)


def row_labels(rows: Sequence[str]) -> list[str]:
    """Return labels without the words that all start with; a label of these alone keeps its last one."""
    labels = [label.split(" ") for label in rows]
    shared = len(list(takewhile(lambda words: len(set(words)) == 1, zip(*labels, strict=False))))
    return [" ".join(label[shared:]) or label[-1] for label in labels]


def _panel(axis: Axes, values: Sequence[Sequence[float]], intervals: Sequence[Interval]) -> None:
    for y, (own, interval) in enumerate(zip(values, intervals, strict=True)):
        if own:
            axis.plot(interval, (y, y), color="tab:blue", alpha=0.35, linewidth=2)
            axis.plot(own, [y] * len(own), "o", markersize=5, markerfacecolor="none", color="tab:gray")
            axis.plot(sum(own) / len(own), y, "o", markersize=4, color="tab:blue")
    axis.grid(alpha=0.3)
    axis.tick_params(axis="x", labelsize=8)
