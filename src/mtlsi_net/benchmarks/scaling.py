"""Growth of a decoder's cost with pixels, tasks and query scales: operations, memory and time, and fitted exponents."""

import copy
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mtlsi_net.benchmarks.candidates import build_candidates
from mtlsi_net.benchmarks.live_bytes import count_step
from mtlsi_net.benchmarks.report import Report, Row, take_turns
from mtlsi_net.benchmarks.runner import Meter, device_record, open_device, random_batch
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.encoder import Encoder

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns about fonts that are not needed

MAPS = 4
COSTS = ("GFLOP", "saved MiB", "peak MiB", "forward ms")
MEANING = {
    "GFLOP": "of the decoder, one image, counted on the meta device, 2 operations per multiply-add",
    "saved MiB": "kept for the backward pass of one image, losses at full size included, parameters left out",
    "peak MiB": "largest sum of activations, gradients and temporary values of a training step on one image",
    "forward ms": "of a batch in eval mode; median of the rounds; empty above scaling.time_gflop",
    "exponent": "slope of a line through log(cost) over log(value), least squares; linear is 1",
    "encoder": "left out: fixed maps of a plain transformer's shapes stand for it",
}


class FixedMaps(Encoder):
    """Substitute for a plain transformer: four maps of its shapes at negligible cost, so that the decoder is measured."""

    def __init__(self, name: str, channels: int, stride: int, pretrained: bool = False) -> None:  # noqa: ARG002
        super().__init__()
        self.specs = [FeatureSpec(channels, stride)] * MAPS
        self.mean, self.std = (0.5,) * 3, (0.5,) * 3
        self.values = nn.Parameter(torch.randn(MAPS, channels, 1, 1))
        self.stride, self.num_layers = stride, 1

    def parameter_depths(self) -> dict[str, int]:
        """Return the depth of the one parameter."""
        return {"values": 1}

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps that are the same at every position."""
        height, width = (side // self.stride for side in image.shape[-2:])
        return [x.expand(image.shape[0], -1, height, width).contiguous() for x in self.values]


def bench_scaling(cfg: DictConfig) -> Report:
    """Measure the decoders of ``cfg.scaling.models``."""
    if len(cfg.scaling.sizes) < 2:
        raise UserError(
            f"scaling.sizes={cfg.scaling.sizes}; a curve needs at least two sizes, e.g. [[224,288],[448,576]]"
        )
    device = open_device(cfg.device)
    rows = [row for variation in _variations(cfg) for row in _measure(cfg, device, *variation)]
    fitted = fits(rows)
    settings = {"rounds": cfg.rounds, **device_record(device, "32-true")}
    settings |= {"scaling": OmegaConf.to_container(cfg.scaling, resolve=True)}
    record = {"settings": settings, "meaning": MEANING}
    return Report({"fits": fitted, "scaling": rows}, draw(rows), "growth: cost ~ value ** exponent", record)


def _variations(cfg: DictConfig) -> Iterator[tuple[str, float, Sequence[int], int, list[str]]]:
    """Yield (what is varied, its value, size, number of tasks, models)."""
    models, base = list(cfg.scaling.models), list(cfg.scaling.sizes[0])
    for size in cfg.scaling.sizes:
        yield "pixels", math.prod(size), list(size), cfg.scaling.base_tasks, models
    for tasks in cfg.scaling.tasks:
        yield "tasks", tasks, base, tasks, models
    for count in cfg.scaling.scales:
        kernels = ",".join(str(2 * i + 1) for i in range(count))
        yield "scales", count, base, cfg.scaling.base_tasks, [f"{models[0]} 'model.fusion.scales=[{kernels}]'"]


def _measure(
    cfg: DictConfig, device: torch.device, over: str, value: float, size: Sequence[int], tasks: int, models: list[str]
) -> list[Row]:
    """Return the models' rows at one value of what is varied; the networks are freed afterwards, as all of them would not fit."""
    rows, jobs = {}, []
    names = {f"{model} task_weights=equal": model for model in models}
    for name, candidate in build_candidates(_configuration(cfg, size, tasks, list(names)), torch.device("cpu")).items():
        batch = random_batch(candidate.module.tasks, size, 1, cfg.seed, torch.device("cpu"))
        held = count_step(candidate.module, batch, None)
        row: Row = {"over": over, "model": "queries" if over == "scales" else names[name], "value": value}
        row |= {"height": size[0], "width": size[1], "tasks": tasks}
        row["GFLOP"] = round(candidate.size["decoder_gflop"], 3)
        rows[name] = row | {"saved MiB": round(held.saved / 2**20, 2), "peak MiB": round(held.working / 2**20, 2)}
        if row["GFLOP"] <= cfg.scaling.time_gflop:
            image = torch.rand(cfg.batch_size, 3, *size, device=device)
            jobs.append(partial(_forward, name, candidate.module.network.eval(), image))
    seconds = take_turns(jobs, cfg.rounds, f"{over}: {value}").median()
    return [row | {"forward ms": round(1e3 * float(seconds.get(name, math.nan)), 2)} for name, row in rows.items()]


def _configuration(cfg: DictConfig, size: Sequence[int], tasks: int, models: list[str]) -> DictConfig:
    """Return a configuration for ``build_candidates``: tasks of the data set's kinds in turn, maps for an encoder."""
    run = copy.deepcopy(cfg)
    OmegaConf.set_struct(run, False)
    kinds = itertools.cycle(cfg.tasks.values())
    run.tasks = {f"task_{i}": copy.deepcopy(next(kinds)) for i in range(tasks)}
    run.data.size, run.models = list(size), models
    encoder = {"_target_": f"{FixedMaps.__module__}.FixedMaps", "name": "fixed maps", "pretrained": False}
    run.backbone = {**encoder, "channels": cfg.scaling.channels, "stride": cfg.scaling.stride}
    return run


def _forward(name: str, network: nn.Module, image: Tensor, _: int) -> dict[str, float]:
    network.to(image.device)
    with torch.no_grad():
        seconds, _peak = Meter(image.device).measure(lambda: network(image))
    network.cpu()
    return {name: seconds}


def fits(rows: Sequence[Row]) -> list[Row]:
    """Return the exponent of every model's every cost."""
    results: list[Row] = []
    for (over, model), part in pd.DataFrame(rows).groupby(["over", "model"], sort=False):
        lines = {f"{cost} exponent": fit(part, cost) for cost in COSTS}
        exponents = {name: math.nan if line is None else round(line[0], 3) for name, line in lines.items()}
        results.append({"over": over, "model": model, **exponents})
    return results


def fit(rows: pd.DataFrame, cost: str) -> tuple[float, float] | None:
    """Return slope and offset of the line through log(cost) over log(value); None if fewer than two are known."""
    known = rows[["value", cost]].dropna().to_numpy(dtype=np.float64)
    if len(known) < 2:
        return None
    values, costs = np.log(known).T
    slope, offset = np.polyfit(values, costs, 1)
    return float(slope), float(offset)


def draw(rows: Sequence[Row]) -> Figure:
    """Draw every cost over what is varied, on logarithmic axes, with the fitted lines."""
    frame = pd.DataFrame(rows)
    varied = [part for _, part in frame.groupby("over", sort=False) if part["value"].nunique() > 1]
    figure = Figure(figsize=(13, 3.8 * len(varied)), layout="constrained")
    grid = figure.subplots(len(varied), len(COSTS), squeeze=False)
    for axes, part in zip(grid, varied, strict=True):
        for axis, cost in zip(axes, COSTS, strict=True):
            _draw_cost(axis, part, cost)
    return figure


def _draw_cost(axis: Axes, part: pd.DataFrame, cost: str) -> None:
    for index, (model, points) in enumerate(part.groupby("model", sort=False)):
        line = fit(points, cost)
        if line is not None:
            axis.loglog(points["value"], points[cost], "o", color=f"C{index}", markersize=4)
            values = np.sort(points["value"].to_numpy(dtype=np.float64))
            fitted = np.exp(line[1]) * values ** line[0]
            axis.loglog(values, fitted, color=f"C{index}", label=f"{model}: {line[0]:.2f}", linewidth=1)
    over = part["over"].iloc[0]
    axis.set(xlabel=over, ylabel=cost)
    axis.yaxis.set_major_formatter(LogFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    if over != "pixels":  # few values: each gets a tick
        counts = sorted(part["value"].unique())
        axis.set_xticks(counts, [f"{count:g}" for count in counts])
        axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(which="both", labelsize=6)
    if axis.lines:
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axis.set_visible(bool(axis.lines))  # no times: only counted
