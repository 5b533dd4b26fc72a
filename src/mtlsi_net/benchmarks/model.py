"""Size, speed and memory of networks, side by side: round by round they take turns, so that ratios hold on a busy machine."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import track

from mtlsi_net.benchmarks.candidates import Candidate, build_candidates
from mtlsi_net.benchmarks.meters import open_device
from mtlsi_net.benchmarks.model_report import MEANING, Values, headline, model_row, publish, stage_rows
from mtlsi_net.benchmarks.runner import STEP, Runner, random_batch
from mtlsi_net.benchmarks.timings import Seconds, publish_timings, take_turns
from mtlsi_net.record import describe_run
from mtlsi_net.utils.errors import UserError, choose

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}
"""Names as the trainer has them."""


def bench_model(cfg: DictConfig) -> dict[str, Values]:
    """Measure the networks of ``cfg.models``; write tables, plot and record to ``cfg.paths.run_dir``.

    Returns:
        Model -> what was done -> one value a round.

    Raises:
        UserError: a setting that is not known, or a network that cannot be built.
    """
    start = time.perf_counter()
    candidates, runners, settings = _prepare(cfg)
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    built = time.perf_counter()
    found = measure(runners, cfg.rounds, train=cfg.train)
    durations = {"building": built - start, "measuring": time.perf_counter() - built}
    first = next(iter(found.values()))
    rows = [model_row(name, candidates[name], found[name], first, cfg.batch_size, cfg.peak_tflops) for name in found]
    stages = [row for name, values in found.items() for row in stage_rows(name, values)]
    publish(rows, stages, {**describe_run(cfg.seed, durations), "settings": settings, "meaning": MEANING}, folder)
    return found


def bench_train(cfg: DictConfig) -> Seconds:
    """Measure training steps of the networks of ``cfg.models``; write table, plot and record to ``cfg.paths.run_dir``.

    Returns:
        Model -> seconds of a step, one value a round.

    Raises:
        UserError: as ``bench_model``.
    """
    _, runners, settings = _prepare(cfg)
    jobs = {name: lambda runner=runner: runner.step()[STEP] for name, runner in runners.items()}
    seconds = take_turns(jobs, cfg.rounds, "train")
    publish_timings("train", seconds, f"train step, {headline(settings)}", cfg.seed, Path(cfg.paths.run_dir), settings)
    return seconds


def _prepare(cfg: DictConfig) -> tuple[dict[str, Candidate], dict[str, Runner], dict[str, Any]]:
    """Return the networks, what runs them on one batch, and the settings for the record."""
    if cfg.batch_size < 1:
        raise UserError(f"batch_size={cfg.batch_size}; give at least 1")
    dtype = choose("precision", cfg.precision, PRECISIONS)
    device, meter = open_device(cfg.device)
    candidates = build_candidates(cfg, device)
    tasks = next(iter(candidates.values())).module.tasks
    batch = random_batch(tasks, cfg.data.size, cfg.batch_size, cfg.seed, device)
    runners = {name: Runner(candidate.module, batch, meter, dtype) for name, candidate in candidates.items()}
    settings = {
        "size": list(cfg.data.size),
        "batch_size": cfg.batch_size,
        "tasks": {name: task.channels for name, task in tasks.items()},
        "rounds": cfg.rounds,
        **device_settings(device, cfg.precision),
    }
    return candidates, runners, settings


def measure(runners: Mapping[str, Runner], rounds: int, *, train: bool) -> dict[str, Values]:
    """Return what the runners tell, round by round; one more round comes first and is not counted."""
    jobs = [(name, runner.forward) for name, runner in runners.items()]
    jobs += [(name, runner.step) for name, runner in runners.items() if train]
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in runners}
    for number in track(range(rounds + 1), "models", transient=True):
        for name, job in jobs:
            for what, value in job().items():
                found[name].setdefault(what, np.zeros(rounds + 1))[number] = value
    return {name: {what: series[1:] for what, series in values.items()} for name, values in found.items()}


def device_settings(device: torch.device, precision: str) -> dict[str, Any]:
    """Return where and in which number formats something was measured."""
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "float32 matmul": torch.get_float32_matmul_precision(),
        "TF32 in convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
    }
