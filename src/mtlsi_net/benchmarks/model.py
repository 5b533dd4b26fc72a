"""Size, speed and memory of networks, side by side."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from mtlsi_net.benchmarks.candidates import Candidate, build_candidates
from mtlsi_net.benchmarks.report import Report, Row, quartiles, stacked_bars, take_turns, timings
from mtlsi_net.benchmarks.runner import (
    FORWARD,
    FORWARD_PEAK,
    PART,
    PARTS,
    STAGE,
    STEP,
    STEP_PEAK,
    Runner,
    device_record,
    random_batch,
    step_settings,
)

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


def bench_model(cfg: DictConfig) -> Report:
    """Measure the networks of ``cfg.models``.

    Raises:
        UserError: a setting that is not known, or a network that cannot be built.
    """
    candidates, runners, settings = _prepare(cfg)

    def run(name: str, kind: str, _: int) -> dict[tuple[str, str], float]:
        return {(name, what): value for what, value in getattr(runners[name], kind)().items()}

    kinds = ("forward", "step") if cfg.train else ("forward",)
    found = take_turns([partial(run, name, kind) for kind in kinds for name in runners], cfg.rounds, "models")
    found.columns = pd.MultiIndex.from_tuples(found.columns)
    first = found[next(iter(runners))]
    rows = [model_row(name, candidate, found[name], first, cfg) for name, candidate in candidates.items()]
    stages = [row for name in candidates for row in stage_rows(name, found[name])]
    title = headline(settings)
    record = {"settings": settings, "meaning": MEANING}
    return Report({"model": rows, "stages": stages}, draw(rows, stages, title), title, record)


def bench_train(cfg: DictConfig) -> Report:
    """Measure training steps of the networks of ``cfg.models``.

    Raises:
        UserError: as ``bench_model``.
    """
    _, runners, settings = _prepare(cfg)
    jobs = [lambda _, name=name: {name: runners[name].step()[STEP]} for name in runners]
    return timings("train", take_turns(jobs, cfg.rounds, "train"), f"train step, {headline(settings)}", settings)


def _prepare(cfg: DictConfig) -> tuple[dict[str, Candidate], dict[str, Runner], dict[str, Any]]:
    """Return the networks, what runs them on one batch, and the settings for the record."""
    dtype, device = step_settings(cfg)
    candidates = build_candidates(cfg, device)
    tasks = next(iter(candidates.values())).module.tasks
    batch = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, device)
    runners = {name: Runner(candidate.module, batch, dtype) for name, candidate in candidates.items()}
    settings = {
        "size": list(cfg.data.size),
        "batch_size": cfg.batch_size,
        "tasks": {name: task.channels for name, task in tasks.items()},
        "rounds": cfg.rounds,
        **device_record(device, cfg.precision),
    }
    return candidates, runners, settings


def model_row(name: str, candidate: Candidate, values: pd.DataFrame, first: pd.DataFrame, cfg: DictConfig) -> Row:
    """Return a network's row of model.csv; ``values`` and those that ratios are taken to are of ``take_turns``."""
    known = [FORWARD, STEP, *(PART + part for part in PARTS), *PEAKS.values()]
    values = values.reindex(columns=known)  # NaN where there is no training or no encoder
    size: Mapping[str, Any] = candidate.size
    row: Row = {"model": name, "backbone": candidate.backbone or ""}
    row |= {column: round(float(size[key]), 6) for column, key in SIZES.items()}
    for what in (FORWARD, STEP):
        row |= quartiles(1e3 * values[what], what + " ms {}", 4)
        row |= quartiles(values[what] / first.reindex(columns=known)[what], what + " ratio {}", 4)
        if what == FORWARD:
            row["images/s"] = round(cfg.batch_size / values[what].median(), 3)
    row |= {f"{part} % of step": round(100 * (values[PART + part] / values[STEP]).median(), 1) for part in PARTS}
    speed = 3 * row["GFLOP"] * cfg.batch_size / 1e3 / values[STEP].median()
    row |= {"train TFLOP/s": round(speed, 4), "% of peak": round(100 * speed / (cfg.peak_tflops or np.nan), 1)}
    return row | {column: round(values[key].median() / 2**20, 1) for column, key in PEAKS.items()}


def stage_rows(name: str, values: pd.DataFrame) -> list[Row]:
    """Return a network's rows of stages.csv, in the order of its stages."""
    rows = []
    for what in (what for what in values if what.startswith(STAGE)):
        row = {"model": name, "stage": what.removeprefix(STAGE), **quartiles(1e3 * values[what], "ms {}", 4)}
        rows.append(row | {"% of forward": round(100 * (values[what] / values[FORWARD]).median(), 1)})
    return rows


def headline(settings: Mapping[str, Any]) -> str:
    """Return images, tasks, device and precision in one line."""
    height, width = settings["size"]
    device = f"CPU ({settings['threads']} threads)" if settings["device"] == "cpu" else settings["device"]
    return (
        f"batches of {settings['batch_size']}, {height}x{width}, {len(settings['tasks'])} tasks, {device}, "
        f"{settings['precision']}"
    )


def draw(rows: list[Row], stages: list[Row], title: str) -> Figure:
    """Draw the forward pass, stage by stage, and the training step of every model."""
    figure = Figure(figsize=(9, 1.8 + 0.4 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    models = pd.DataFrame(rows).set_index("model")
    took = pd.DataFrame(stages).pivot_table("ms", "model", "stage", sort=False).reindex(models.index)
    stacked_bars(left, took.fillna(0.0))
    left.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    right.barh(models.index, models[f"{STEP} ms"])
    for axis, what in ((left, FORWARD), (right, STEP)):
        median, low, high = (models[f"{what} ms{end}"] for end in ("", " low", " high"))
        axis.errorbar(median, models.index, xerr=(median - low, high - median), fmt="k.", capsize=3)
        axis.set_xlabel(f"{what}, ms")
        axis.set_xlim(left=0)
        axis.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
