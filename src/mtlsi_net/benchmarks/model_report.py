"""What ``what=model`` found, as tables and a plot."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mtlsi_net.benchmarks.candidates import Candidate
from mtlsi_net.benchmarks.runner import FORWARD, FORWARD_PEAK, PART, PARTS, STAGE, STEP, STEP_PEAK
from mtlsi_net.benchmarks.tables import spread, write_csv
from mtlsi_net.utils.io import write_json

log = logging.getLogger(__name__)

Values = Mapping[str, NDArray[np.float64]]
"""What was done -> seconds of a batch, or bytes of a peak, one value a round; names are those of ``runner``."""
Row = dict[str, str | float]
"""Column -> value; NaN, an empty cell, if it is unknown."""

LOW, HIGH = " low", " high"
"""Ends of the columns that hold a value's quartiles."""
MEANING = {
    "weights": "random",
    "M": "millions of parameters",
    "GFLOP": "of one image, counted on the meta device, 2 operations per multiply-add",
    "forward": "ms of a batch in eval mode, without gradient or mask of padding; stages are the network's children in it",
    "train step": "ms of a batch: forward with mask, losses, backward, optimiser; gradients are not clipped",
    "% of step": "share of the train step: encoder and decoder forward and backward, the latter with the losses; optimiser",
    "train TFLOP/s": "three forward passes a train step, the field's rule of thumb; % of peak is that of peak_tflops",
    "low, high": "quartiles of the rounds; what is measured is their median",
    "ratio": "to the first model in the same round",
    "MiB": "peak of weights, activations, gradients and optimiser's state, without the batch; known on CUDA only",
}
SIZES = {
    "parameters M": "parameters_m",
    "encoder M": "encoder_parameters_m",
    "decoder M": "decoder_parameters_m",
    "GFLOP": "gflop",
    "encoder GFLOP": "encoder_gflop",
    "decoder GFLOP": "decoder_gflop",
}
"""Column -> what ``measure_size`` calls it."""
PEAKS = {"inference MiB": FORWARD_PEAK, "training MiB": STEP_PEAK}


def model_row(
    name: str, candidate: Candidate, values: Values, first: Values, batch_size: int, peak_tflops: float | None
) -> Row:
    """Return a network's row of model.csv; ``first`` is what ratios are taken to."""
    size: Mapping[str, Any] = candidate.size
    row: Row = {"model": name, "backbone": candidate.backbone or ""}
    row |= {column: round(float(size[key]), 6) for column, key in SIZES.items()}
    row |= _times(FORWARD, values, first)
    row["images/s"] = round(batch_size / float(np.median(values[FORWARD])), 3)
    row |= _times(STEP, values, first)
    row |= {f"{part} % of step": _share(values, PART + part) for part in PARTS}
    speed = 3 * float(size["gflop"]) * batch_size / 1e3 / _median(values, STEP)
    row["train TFLOP/s"], row["% of peak"] = round(speed, 4), round(100 * speed / (peak_tflops or math.nan), 1)
    return row | {column: round(_median(values, key) / 2**20, 1) for column, key in PEAKS.items()}


def stage_rows(name: str, values: Values) -> list[Row]:
    """Return a network's rows of stages.csv, in the order of its stages."""
    rows: list[Row] = []
    for what in (what for what in values if what.startswith(STAGE)):
        row: Row = {"model": name, "stage": what.removeprefix(STAGE)}
        row |= dict(zip(("ms", "ms" + LOW, "ms" + HIGH), _rounded(1e3 * spread(values[what])), strict=True))
        row["% of forward"] = round(100 * float(np.median(values[what] / values[FORWARD])), 1)
        rows.append(row)
    return rows


def _times(what: str, values: Values, first: Values) -> Row:
    names = [f"{what} {unit}{end}" for unit in ("ms", "ratio") for end in ("", LOW, HIGH)]
    if what not in values:
        return dict.fromkeys(names, math.nan)
    spreads = (1e3 * spread(values[what]), spread(values[what] / first[what]))
    return dict(zip(names, _rounded(np.concatenate(spreads)), strict=True))


def _share(values: Values, part: str) -> float:
    return round(100 * float(np.median(values[part] / values[STEP])), 1) if part in values else math.nan


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]


def _median(values: Values, what: str) -> float:
    return float(np.median(values[what])) if what in values else math.nan


def publish(rows: Sequence[Row], stages: Sequence[Row], record: Mapping[str, Any], folder: Path) -> None:
    """Write model.csv, stages.csv, model.png and bench.json, and print the table.

    Args:
        rows: of ``model_row``.
        stages: of ``stage_rows``.
        record: what bench.json holds beside the rows; its ``settings`` head the table.
        folder: an existing one.
    """
    write_csv(folder / "model.csv", [_filled(row) for row in rows])
    write_csv(folder / "stages.csv", [_filled(row) for row in stages])
    write_json(folder / "bench.json", {**record, "rows": rows, "stages": stages})
    title = headline(record["settings"])
    draw(rows, stages, title, folder / "model.png")
    table = Table("", *(str(row["model"]) for row in rows), title=title)
    for column in [column for column in rows[0] if column != "model" and not column.endswith((LOW, HIGH))]:
        table.add_row(column, *(_cell(row, column) for row in rows))
    Console().print(table)
    log.info("weights are random; GFLOP are of one image, 2 per multiply-add; quartiles of the rounds in brackets")
    if math.isnan(float(rows[0]["inference MiB"])):
        log.info("peak memory is not known: only CUDA's allocator tells it")
    log.info("stages and all else are in %s", folder)


def headline(settings: Mapping[str, Any]) -> str:
    """Return images, tasks, device and precision in one line."""
    height, width = settings["size"]
    device = f"CPU ({settings['threads']} threads)" if settings["device"] == "cpu" else settings["device"]
    return (
        f"batches of {settings['batch_size']}, {height}x{width}, {len(settings['tasks'])} tasks, {device}, "
        f"{settings['precision']}"
    )


def _filled(row: Row) -> Row:
    return {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _cell(row: Row, column: str) -> str:
    """Return a value, and its quartiles in brackets if it has some."""
    value = row[column]
    if isinstance(value, str) or math.isnan(value):
        return value if isinstance(value, str) and value else "-"
    quartiles = f" ({row[column + LOW]:.2f} to {row[column + HIGH]:.2f})" if column + LOW in row else ""
    return f"{value:.2f}{quartiles}"


def draw(rows: Sequence[Row], stages: Sequence[Row], title: str, path: Path) -> None:
    """Draw the forward pass, stage by stage, and the training step of every model."""
    models = [str(row["model"]) for row in rows]
    figure = Figure(figsize=(9, 1.8 + 0.4 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    ends = np.zeros(len(rows))
    for stage in dict.fromkeys(str(row["stage"]) for row in stages):
        took = {str(row["model"]): float(row["ms"]) for row in stages if row["stage"] == stage}
        widths = np.array([took.get(model, 0.0) for model in models])
        left.barh(models, widths, left=ends, label=stage)
        ends += widths
    left.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    for axis, what in ((left, FORWARD), (right, STEP)):
        median, low, high = (np.array([float(row[f"{what} ms{end}"]) for row in rows]) for end in ("", LOW, HIGH))
        if axis is right:
            axis.barh(models, median, color="#4878a8")
        axis.errorbar(median, models, xerr=(median - low, high - median), fmt="k.", capsize=3)
        axis.set_xlabel(f"{what}, ms")
        axis.set_xlim(left=0)
        axis.tick_params(labelsize=8)
    left.invert_yaxis()
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
