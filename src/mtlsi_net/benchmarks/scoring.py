"""Processor time of scoring an image: post-processing and metric of every task, and all of them as evaluation runs them."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.benchmarks.boundary import open_pictures
from mtlsi_net.benchmarks.report import Report, take_turns, timings
from mtlsi_net.benchmarks.runner import random_batch
from mtlsi_net.core.types import Batch, Reference
from mtlsi_net.engine.boundary_files import read_prediction, read_reference
from mtlsi_net.engine.build import build_tasks
from mtlsi_net.metrics.boundary.counting import HALF
from mtlsi_net.metrics.boundary.presets import make_preset
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.metrics import TaskMetrics, postprocess

COARSE = 8
"""Pixels between the random values that raw outputs are interpolated from."""
ALL, REST = "all tasks, as in evaluation", "all without references"


def bench_scoring(cfg: DictConfig) -> Report:
    """Score one image of every task of ``cfg.tasks``: random outputs and labels, but the boundaries of ``cfg.boundary``."""
    tasks = build_tasks(cfg)
    outputs, batch = make_example(cfg, tasks)
    values = postprocess(tasks, outputs)
    others = {name: task for name, task in tasks.items() if not task.target.reference}
    work: dict[str, Callable[[], object]] = {ALL: partial(score, tasks, outputs, batch)}
    if others and len(others) < len(tasks):
        work[REST] = partial(score, others, outputs, batch)
    for name, task in tasks.items():
        work[f"{name}: post-processing"] = partial(task.postprocess, outputs[name])
        work[f"{name}: metric"] = partial(task.update, task.new_metric(), values[name], batch, name)
    jobs = [lambda _, name=name, do=do: {name: processor_seconds(do)} for name, do in work.items()]
    height, width = batch["image"].shape[-2:]
    settings = {"size": [height, width], "tasks": {name: task.channels for name, task in tasks.items()}}
    meaning = f"processor time of an image of {height}x{width}"
    return timings("scoring", take_turns(jobs, cfg.rounds, "scoring"), meaning, settings)


def score(tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], batch: Batch) -> None:
    """Score raw outputs of one image as evaluation does, its contribution kept."""
    metrics = TaskMetrics(tasks, keep_images=True)
    metrics.update(postprocess(tasks, outputs), batch)
    metrics.compute()


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of ``work``, over all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def make_example(cfg: DictConfig, tasks: Mapping[str, Task]) -> tuple[dict[str, Tensor], Batch]:
    """Return raw outputs (1, K, H, W) of every task and a batch of their labels, at the size of the boundary's pictures."""
    prediction, truths = open_pictures(cfg)
    soft, boundaries = read_prediction(prediction), read_reference(truths, make_preset("plain"))
    size = soft.shape
    batch = random_batch(tasks, size, 1, cfg.seed, torch.device("cpu"))
    generator = torch.Generator().manual_seed(cfg.seed)
    outputs = {}
    for name, task in tasks.items():
        coarse = torch.randn(1, task.channels, *(side // COARSE + 2 for side in size), generator=generator)
        outputs[name] = F.interpolate(coarse, size, mode="bilinear")
        if isinstance(task, BoundaryTask):
            share = torch.from_numpy(soft.astype(np.float32))[None, None] / 255
            outputs[name] = share.logit(eps=1e-4)
            batch["references"][name] = [_reference(task, boundaries)]
    return outputs, batch


def _reference(task: BoundaryTask, boundaries: Reference) -> Reference:
    """Return boundaries, or the segments between them where the task's rules take those."""
    if make_preset(task.preset).truth != "labels":
        return boundaries
    maps: Any = np.stack([label(stored < HALF, connectivity=1) for stored in boundaries.maps])
    return Reference(maps, "labels")
