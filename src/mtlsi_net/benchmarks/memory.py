"""Memory of a training step: counted without a device, and measured where there is a GPU."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track

from mtlsi_net.benchmarks.candidates import build_candidates
from mtlsi_net.benchmarks.live_bytes import StepBytes, count_step
from mtlsi_net.benchmarks.meters import open_device
from mtlsi_net.benchmarks.model import PRECISIONS, device_settings
from mtlsi_net.benchmarks.runner import STEP_PEAK, Runner, random_batch
from mtlsi_net.benchmarks.tables import print_rows, write_csv
from mtlsi_net.record import describe_run
from mtlsi_net.utils.errors import UserError, choose
from mtlsi_net.utils.io import write_json

log = logging.getLogger(__name__)

PARTS = ("parameters", "gradients", "optimiser", "saved activations")
MEANING = {
    "saved activations": "distinct storages kept for the backward pass, parameters left out",
    "counted peak": "parameters, buffers, optimiser's state and the largest sum that forward and backward make and have "
    "not freed (activations, gradients, temporary values); sizes as the CPU's kernels have them, which keep the logits "
    "of attention with a learned bias",
    "not counted": "the batch, the optimiser's own temporary values, the allocator's fragments, a GPU's context (about "
    "0.5 GiB) and convolutions' workspaces",
    "measured peak": "torch.cuda.max_memory_allocated beyond the batch, optimiser included; empty without a GPU",
    "free": "of card_gib, counted",
}
MIB, GIB = 2**20, 2**30


def bench_memory(cfg: DictConfig) -> dict[str, StepBytes]:
    """Count the networks of ``cfg.models``; write table, plot and record to ``cfg.paths.run_dir``.

    Raises:
        UserError: a setting that is not known, or a network that cannot be built or counted.
    """
    if cfg.batch_size < 1:
        raise UserError(f"batch_size={cfg.batch_size}; give at least 1")
    dtype = choose("precision", cfg.precision, PRECISIONS)
    device, meter = open_device(cfg.device)
    start = time.perf_counter()
    candidates = build_candidates(cfg, torch.device("cpu"))
    tasks = next(iter(candidates.values())).module.tasks
    batch = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, torch.device("cpu"))
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    found, measured = {}, {}
    for name, candidate in track(candidates.items(), "memory", transient=True):
        found[name] = count_step(candidate.module, batch, dtype)
        measured[name] = math.nan
        if device.type == "cuda":
            on_gpu = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, device)
            runner = Runner(candidate.module.to(device), on_gpu, meter, dtype)
            measured[name] = max(runner.step()[STEP_PEAK] for _ in range(2))
            candidate.module.cpu()
    rows = [memory_row(name, count, measured[name], cfg.card_gib) for name, count in found.items()]
    write_csv(folder / "memory.csv", rows)
    settings = {
        "size": list(cfg.data.size),
        "batch_size": cfg.batch_size,
        "tasks": list(tasks),
        "card_gib": cfg.card_gib,
    }
    settings |= device_settings(device, cfg.precision)
    record = describe_run(cfg.seed, {"all": time.perf_counter() - start})
    write_json(folder / "bench.json", {**record, "settings": settings, "meaning": MEANING, "rows": rows})
    height, width = cfg.data.size
    title = f"MiB of a training step, {cfg.batch_size} x {height}x{width}, {len(tasks)} tasks, {cfg.precision}"
    draw(rows, cfg.card_gib, title, folder / "memory.png")
    print_rows(rows, title)
    log.info("what is counted: %s; everything is in %s", MEANING["counted peak"], folder)
    return found


def memory_row(name: str, count: StepBytes, measured: float, card_gib: float) -> dict[str, str | float]:
    """Return a network's row of memory.csv, in MiB."""
    known = count.parameters, count.gradients, count.optimiser, count.saved
    sizes: dict[str, float] = dict(zip(PARTS, known, strict=True))
    sizes |= {"counted peak": count.peak, "free": card_gib * GIB - count.peak}
    row: dict[str, str | float] = {"model": name}
    row |= {f"{what} MiB": round(size / MIB, 1) for what, size in sizes.items()}
    return row | {"measured peak MiB": "" if math.isnan(measured) else round(measured / MIB, 1)}


def draw(rows: Sequence[dict[str, str | float]], card_gib: float, title: str, path: Path) -> None:
    """Draw the parts of every network's memory, its peak, and the size of the card."""
    names = [str(row["model"]) for row in rows]
    figure = Figure(figsize=(9, 1.6 + 0.5 * len(rows)), layout="constrained")
    axis = figure.subplots()
    ends = np.zeros(len(rows))
    for part in PARTS:
        widths = np.array([float(row[f"{part} MiB"]) for row in rows])
        axis.barh(names, widths, left=ends, label=part)
        ends += widths
    axis.plot([float(row["counted peak MiB"]) for row in rows], names, "k|", markersize=18, label="counted peak")
    axis.axvline(card_gib * 1024, color="grey", linestyle="--", label=f"{card_gib:g} GiB")
    axis.legend(fontsize=7, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.invert_yaxis()
    figure.savefig(path, dpi=120)
