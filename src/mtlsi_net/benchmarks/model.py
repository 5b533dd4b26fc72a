"""Benchmark of networks: size, speed and memory, side by side."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from mtlsi_net.benchmarks.candidates import Candidate, build_candidates
from mtlsi_net.benchmarks.report import Report, Row, quartiles, take_turns, timings
from mtlsi_net.benchmarks.runner import (
    FORWARD,
    FORWARD_PEAK,
    PART,
    PARTS,
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
    "forward": "ms of a batch in eval mode, without gradient or mask of padding",
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
    """Measure the networks of ``cfg.models``."""
    candidates, runners, settings = _prepare(cfg)

    def run(name: str, kind: str, _: int) -> dict[tuple[str, str], float]:
        return {(name, what): value for what, value in getattr(runners[name], kind)().items()}

    kinds = ("forward", "step") if cfg.train else ("forward",)
    values = take_turns([partial(run, name, kind) for kind in kinds for name in runners], cfg.rounds, "models")
    values.columns = pd.MultiIndex.from_tuples(values.columns)
    first = values[next(iter(runners))]
    rows = [model_row(name, candidate, values[name], first, cfg) for name, candidate in candidates.items()]
    title = headline(settings)
    record = {"settings": settings, "meaning": MEANING}
    return Report({"model": rows}, draw(rows, title), title, record)


def bench_train(cfg: DictConfig) -> Report:
    """Measure training steps of the networks of ``cfg.models``."""
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


def headline(settings: Mapping[str, Any]) -> str:
    """Return images, tasks, device and precision in one line."""
    height, width = settings["size"]
    device = f"CPU ({settings['threads']} threads)" if settings["device"] == "cpu" else settings["device"]
    return (
        f"batches of {settings['batch_size']}, {height}x{width}, {len(settings['tasks'])} tasks, {device}, "
        f"{settings['precision']}"
    )


def draw(rows: list[Row], title: str) -> Figure:
    """Draw the forward pass and the training step of every model, with the rounds' quartiles."""
    figure = Figure(figsize=(9, 1.8 + 0.4 * len(rows)), layout="constrained")
    models = pd.DataFrame(rows).set_index("model")
    for axis, what in zip(figure.subplots(1, 2, sharey=True), (FORWARD, STEP), strict=True):
        median, low, high = (models[f"{what} ms{end}"] for end in ("", " low", " high"))
        axis.barh(models.index, median, xerr=(median - low, high - median), capsize=3)
        axis.set(xlabel=f"{what}, ms", xlim=(0, None))
        axis.tick_params(labelsize=8)
    axis.invert_yaxis()
    figure.suptitle(title, fontsize=9)
    return figure
