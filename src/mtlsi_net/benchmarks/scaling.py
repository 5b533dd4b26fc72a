"""How a decoder's cost grows with pixels, tasks and query scales: operations, memory and time, and fitted exponents."""

import copy
import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from torch import Tensor, nn

from mtlsi_net.benchmarks.candidates import Candidate, build_candidates
from mtlsi_net.benchmarks.live_bytes import count_step
from mtlsi_net.benchmarks.meters import Meter, open_device
from mtlsi_net.benchmarks.model import device_settings
from mtlsi_net.benchmarks.runner import random_batch
from mtlsi_net.benchmarks.scaling_report import MEANING, Row, draw, fits
from mtlsi_net.benchmarks.tables import print_rows, write_csv
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.record import describe_run
from mtlsi_net.specs import FeatureSpec
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.io import write_json

log = logging.getLogger(__name__)

MAPS = 4


class FixedMaps(Encoder):
    """Stands for a plain transformer: maps of its shapes at next to no cost, so that what is measured is the decoder.

    Args:
        name: what it stands for.
        channels: of each of the four maps.
        stride: of all of them.
        pretrained: not used, as every encoder's here.
    """

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


@dataclass
class Point:
    """One decoder at one value of what is varied."""

    row: Row
    candidate: Candidate
    size: Sequence[int]
    seconds: list[float] = field(default_factory=list)


def bench_scaling(cfg: DictConfig) -> list[Row]:
    """Measure the decoders of ``cfg.scaling.models``; write tables, plot and record to ``cfg.paths.run_dir``.

    Returns:
        The rows of scaling.csv.

    Raises:
        UserError: a setting that cannot be, or a network that cannot be built.
    """
    if len(cfg.scaling.sizes) < 2:
        raise UserError(f"scaling.sizes={cfg.scaling.sizes}; a curve needs two sizes or more: [[224,288],[448,576]]")
    device, meter = open_device(cfg.device)
    start = time.perf_counter()
    rows: list[Row] = []
    for variation in track(list(_variations(cfg)), "scaling", transient=True):
        points = list(_count(cfg, *variation))
        _time([p for p in points if float(p.row["GFLOP"]) <= cfg.scaling.time_gflop], cfg, device, meter)
        rows += [point.row for point in points]  # the networks go: all at once would be large
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    fitted = fits(rows)
    write_csv(folder / "scaling.csv", rows)
    write_csv(folder / "fits.csv", fitted)
    settings = {"rounds": cfg.rounds, **device_settings(device, "32-true")}
    settings |= {"scaling": OmegaConf.to_container(cfg.scaling, resolve=True)}
    record = describe_run(cfg.seed, {"all": time.perf_counter() - start})
    write_json(
        folder / "bench.json", {**record, "settings": settings, "meaning": MEANING, "rows": rows, "fits": fitted}
    )
    draw(rows, fitted, folder / "scaling.png")
    print_rows([row for row in fitted if row["over"] == "pixels"], "growth: cost ~ pixels ** exponent")
    log.info("everything is in %s", folder)
    return rows


def _variations(cfg: DictConfig) -> Iterator[tuple[str, float, Sequence[int], int, list[str]]]:
    """Give (what is varied, its value, size, number of tasks, models)."""
    models, base = list(cfg.scaling.models), list(cfg.scaling.sizes[0])
    for size in cfg.scaling.sizes:
        yield "pixels", math.prod(size), list(size), cfg.scaling.base_tasks, models
    for tasks in cfg.scaling.tasks:
        yield "tasks", tasks, base, tasks, models
    for count in cfg.scaling.scales:
        kernels = ",".join(str(2 * i + 1) for i in range(count))
        yield "scales", count, base, cfg.scaling.base_tasks, [f"{models[0]} 'model.fusion.scales=[{kernels}]'"]


def _count(
    cfg: DictConfig, over: str, value: float, size: Sequence[int], tasks: int, models: list[str]
) -> Iterator[Point]:
    run = copy.deepcopy(cfg)
    OmegaConf.set_struct(run, False)
    kinds = itertools.cycle(cfg.tasks.values())
    run.tasks = {f"task_{i}": copy.deepcopy(next(kinds)) for i in range(tasks)}
    names = {f"{model} task_weights=equal": model for model in models}
    run.data.size, run.models = list(size), list(names)
    encoder = {"_target_": f"{FixedMaps.__module__}.FixedMaps", "name": "fixed maps", "pretrained": False}
    run.backbone = {**encoder, "channels": cfg.scaling.channels, "stride": cfg.scaling.stride}
    for name, candidate in build_candidates(run, torch.device("cpu")).items():
        batch = random_batch(candidate.module.tasks, size, 1, cfg.seed, torch.device("cpu"))
        held = count_step(candidate.module, batch, None)
        row: Row = {"over": over, "model": "queries" if over == "scales" else names[name], "value": value}
        row |= {"height": size[0], "width": size[1], "tasks": tasks}
        row["GFLOP"] = round(candidate.size["decoder_gflop"], 3)
        row |= {"saved MiB": round(held.saved / 2**20, 2), "peak MiB": round(held.working / 2**20, 2), "forward ms": ""}
        yield Point(row, candidate, size)


def _time(points: Sequence[Point], cfg: DictConfig, device: torch.device, meter: Meter) -> None:
    """Write the median of the rounds into the points' rows; they take turns."""
    for number in range(cfg.rounds + 1):
        for point in points:
            seconds = _forward_seconds(point, cfg, device, meter)
            point.seconds += [seconds] if number else []  # the first round warms up
    for point in points:
        point.row["forward ms"] = round(1e3 * float(np.median(point.seconds)), 2)


def _forward_seconds(point: Point, cfg: DictConfig, device: torch.device, meter: Meter) -> float:
    network = point.candidate.module.network.to(device).eval()
    image = torch.rand(cfg.batch_size, 3, *point.size, device=device)
    with torch.no_grad():
        seconds, _ = meter.measure(lambda: network(image))
    network.cpu()
    return seconds
