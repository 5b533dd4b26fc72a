"""Pictures of confusion matrices."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mtlsi_net.tasks.base import Confusion

INCHES_PER_CLASS = 0.22
SMALLEST, LARGEST = 4.0, 14.0
"""Sides of the matrix in inches."""
MOST_NAMES = 64
"""Classes whose names can be read beside the matrix. Of more, only those that occur are drawn, and too many have no names."""
MOST_NUMBERS = 12
"""Classes whose shares can be read inside the matrix."""


def draw_confusion(confusion: Confusion, title: str, path: Path) -> None:
    """Draw the share of each labelled class (row) that was predicted as each class (column); classes without labels are grey.

    Of more than ``MOST_NAMES`` classes, only those that occur in labels or predictions are drawn, if any does.
    """
    counts, names = confusion.counts, confusion.names
    if len(names) > MOST_NAMES and counts.any():
        occur = np.flatnonzero(counts.any(0) | counts.any(1))
        title = f"{title}: {len(occur)} of {len(names)} classes occur"
        counts, names = counts[np.ix_(occur, occur)], tuple(names[index] for index in occur)
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    side = float(np.clip(INCHES_PER_CLASS * len(names), SMALLEST, LARGEST))
    figure = Figure(figsize=(side + 2.5, side + 2), layout="constrained")
    axis = figure.subplots()
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="0.8")
    drawn = axis.imshow(shares, cmap=colors, vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, shrink=0.6, label="share of the labelled class")
    axis.set(title=title, xlabel="predicted", ylabel="labelled")
    if len(names) <= MOST_NAMES:
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
    else:
        axis.set(xticks=[], yticks=[])
    if len(names) <= MOST_NUMBERS:
        for row, column in np.argwhere(~np.isnan(shares)):
            share = shares[row, column]
            ink = "black" if share > 0.5 else "white"
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=ink)
    figure.savefig(path, dpi=110)
