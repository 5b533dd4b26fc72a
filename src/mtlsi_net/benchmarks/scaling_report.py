"""What ``what=scaling`` found: exponents, crossings and a plot."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

Row = dict[str, str | float]
"""Column -> value; an empty string where it is not known."""

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it misses fonts of powers that it does not need

COSTS = ("GFLOP", "saved MiB", "peak MiB", "forward ms")
MEANING = {
    "GFLOP": "of the decoder, one image, counted on the meta device, 2 operations per multiply-add",
    "saved MiB": "kept for the backward pass of one image, losses at full size included, parameters left out",
    "peak MiB": "largest sum of activations, gradients and temporary values of a training step on one image",
    "forward ms": "of a batch in eval mode; median of the rounds; empty above scaling.time_gflop",
    "exponent": "slope of a line through log(cost) over log(value), least squares; linear is 1",
    "crossing": "value at which the fitted lines of a model and the first one cross; empty if they do not",
    "encoder": "left out: fixed maps of a plain transformer's shapes stand for it",
}


def fits(rows: Sequence[Row]) -> list[Row]:
    """Return the exponent of every model's every cost, and where it crosses the first model's."""
    found: list[Row] = []
    first: dict[tuple[str, str], tuple[float, float]] = {}
    for over, model in dict.fromkeys((str(row["over"]), str(row["model"])) for row in rows):
        own = [row for row in rows if row["over"] == over and row["model"] == model]
        result: Row = {"over": over, "model": model}
        for cost in COSTS:
            known = [(float(row["value"]), float(row[cost])) for row in own if row[cost] != ""]
            result |= {f"{cost} exponent": "", f"{cost} crossing": ""}
            if len(known) < 2:
                continue
            line = fit(known)
            result[f"{cost} exponent"] = round(line[0], 3)
            crossing = cross(first.setdefault((over, cost), line), line)
            result[f"{cost} crossing"] = "" if crossing is None else round(crossing, 1)
        found.append(result)
    return found


def fit(known: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and offset of the line through log(cost) over log(value)."""
    values, costs = np.log(np.array(known)).T
    slope, offset = np.polyfit(values, costs, 1)
    return float(slope), float(offset)


def cross(a: tuple[float, float], b: tuple[float, float]) -> float | None:
    """Return the value at which two fitted lines meet; None if they are (nearly) parallel or meet far away."""
    if abs(a[0] - b[0]) < 0.01:
        return None
    at = (b[1] - a[1]) / (a[0] - b[0])
    return math.exp(at) if abs(at) < 30 else None


def draw(rows: Sequence[Row], fitted: Sequence[Row], path: Path) -> None:
    """Draw every cost over what is varied, on logarithmic axes, with the fitted lines."""
    values_of: dict[str, set[float]] = {}
    for row in rows:
        values_of.setdefault(str(row["over"]), set()).add(float(row["value"]))
    overs = [over for over, values in values_of.items() if len(values) > 1]
    figure = Figure(figsize=(13, 3.8 * len(overs)), layout="constrained")
    grid = figure.subplots(len(overs), len(COSTS), squeeze=False)
    for axes, over in zip(grid, overs, strict=True):
        for axis, cost in zip(axes, COSTS, strict=True):
            for index, row in enumerate(row for row in fitted if row["over"] == over):
                own = [r for r in rows if r["over"] == over and r["model"] == row["model"] and r[cost] != ""]
                if len(own) < 2:
                    continue
                known = [(float(r["value"]), float(r[cost])) for r in own]
                values, costs = np.array(known).T
                slope, offset = fit(known)
                label = f"{row['model']}: {slope:.2f}"
                axis.loglog(values, costs, "o", color=f"C{index}", markersize=4)
                axis.loglog(values, np.exp(offset) * values**slope, color=f"C{index}", label=label, linewidth=1)
            axis.set(xlabel=over, ylabel=cost)
            axis.yaxis.set_major_formatter(LogFormatter())
            axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
            if over != "pixels":  # few and small: each has its tick
                counts = sorted(values_of[over])
                axis.set_xticks(counts, [f"{count:g}" for count in counts])
                axis.xaxis.set_minor_locator(NullLocator())
            axis.tick_params(which="both", labelsize=6)
            if axis.lines:
                axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2))
            axis.set_visible(bool(axis.lines))  # counted alone: no times
    figure.savefig(path, dpi=120)
