"""Memory benchmark of a training step: counted without a device, and measured on a GPU if there is one."""

import math

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track

from mtlsi_net.benchmarks.candidates import build_candidates
from mtlsi_net.benchmarks.live_bytes import count_step
from mtlsi_net.benchmarks.report import Report, Row
from mtlsi_net.benchmarks.runner import STEP_PEAK, Runner, device_record, random_batch, step_settings

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


def bench_memory(cfg: DictConfig) -> Report:
    """Count the training step of the networks of ``cfg.models``, and measure it on a GPU."""
    dtype, device = step_settings(cfg)
    cpu = torch.device("cpu")
    candidates = build_candidates(cfg, cpu)
    tasks = next(iter(candidates.values())).module.tasks
    batch = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, cpu)
    rows = []
    for name, candidate in track(candidates.items(), "memory", transient=True):
        count, measured = count_step(candidate.module, batch, dtype), math.nan
        if device.type == "cuda":
            on_gpu = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, device)
            runner = Runner(candidate.module.to(device), on_gpu, dtype)
            runner.step()  # makes the optimiser's state, which later steps find
            measured = runner.step()[STEP_PEAK]
            candidate.module.cpu()
        sizes = {
            "parameters": count.parameters,
            "gradients": count.gradients,
            "optimiser": count.optimiser,
            "saved activations": count.saved,
            "counted peak": count.peak,
            "free": cfg.card_gib * 2**30 - count.peak,
            "measured peak": measured,
        }
        rows.append({"model": name, **{f"{what} MiB": round(size / 2**20, 1) for what, size in sizes.items()}})
    settings = {"size": list(cfg.data.size), "batch_size": cfg.batch_size, "tasks": list(tasks)}
    settings |= {"card_gib": cfg.card_gib, **device_record(device, cfg.precision)}
    height, width = cfg.data.size
    title = f"MiB of a training step, {cfg.batch_size} x {height}x{width}, {len(tasks)} tasks, {cfg.precision}"
    return Report({"memory": rows}, draw(rows, cfg.card_gib, title), title, {"settings": settings, "meaning": MEANING})


def draw(rows: list[Row], card_gib: float, title: str) -> Figure:
    """Draw the parts of every network's memory, its peak, and the size of the card."""
    frame = pd.DataFrame(rows).set_index("model")
    figure = Figure(figsize=(9, 1.6 + 0.5 * len(rows)), layout="constrained")
    axis = figure.subplots()
    frame.iloc[:, :4].plot.barh(stacked=True, ax=axis)
    axis.plot(frame["counted peak MiB"], range(len(rows)), "k|", markersize=18, label="counted peak")
    axis.axvline(card_gib * 1024, color="grey", linestyle="--", label=f"{card_gib:g} GiB")
    axis.invert_yaxis()
    axis.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    axis.set_title(title, fontsize=9)
    return figure
