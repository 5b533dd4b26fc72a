"""Speed of loading: one process, one thread, against decoding the same files alone."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track

from mtlsi_net import assemble
from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.data.sampling import Draw
from mtlsi_net.utils.run_folder import describe_run, write_json

log = logging.getLogger(__name__)

Job = Callable[[int, int], object]
"""Does its work for a round and a sample."""


def bench_loader(cfg: DictConfig) -> dict[str, list[float]]:
    """Measure decoding, the training pipeline and the evaluation pipeline; write them to ``cfg.paths.run_dir``.

    Returns:
        What was measured -> seconds for one image, one value a round.

    Raises:
        UserError: data that cannot be used.
    """
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    data = assemble.build_data(cfg, assemble.build_tasks(cfg))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    seconds = measure(jobs_of(data), len(data.datasets["train"]), cfg.rounds)
    write_json(folder / "bench.json", {**describe_run(cfg.seed, {}), "measured": seconds})
    return seconds


def jobs_of(data: MultiTaskDataModule) -> dict[str, Job]:
    """Return what is measured."""
    train, plain = data.datasets["train"], data.datasets["train_plain"]
    return {
        "decode": lambda _, sample: train.reader.read(train.ids[sample]),
        "train pipeline": lambda epoch, sample: train[Draw(epoch, sample)],
        "evaluation pipeline": lambda _, sample: plain[Draw(0, sample)],
    }


def measure(jobs: Mapping[str, Job], samples: int, rounds: int) -> dict[str, list[float]]:
    """Return each job's seconds for one sample, round by round; the jobs take turns at every sample."""
    totals = {name: np.zeros(rounds + 1) for name in jobs}
    for number in track(range(rounds + 1), "loader", transient=True):
        for sample in range(samples):
            for name, job in jobs.items():
                start = time.perf_counter()
                job(number, sample)
                totals[name][number] += time.perf_counter() - start
    return {name: (total[1:] / samples).tolist() for name, total in totals.items()}
