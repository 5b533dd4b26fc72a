"""Pictures to look at: image, label and prediction side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.types import Batch
from mtlsi_net.data import transforms
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.tasks.base import Task, valid_window
from mtlsi_net.tasks.metrics import postprocess

matplotlib.use("Agg")

CELL_INCHES = 1.9
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One image (H, W, 3) RGB, its padding cut away, with task -> (C, H, W) labels (255 invalid) and predicted values."""

    sample_id: str
    image: Picture
    labels: dict[str, Tensor]
    values: dict[str, Tensor]


def predict_samples(module: MultiTaskModule, data: MultiTaskDataModule, split: str, count: int) -> list[Sample]:
    """Return the first ``count`` images of a split with the module's predictions."""
    loader = data.eval_dataloader(split, shared=False)
    batches = (data.to_device(batch, module.device) for batch in loader)
    return list(islice((sample for batch in batches for sample in _samples(module, batch)), count))


def write_grid(samples: Sequence[Sample], tasks: Mapping[str, Task], path: Path) -> None:
    """Write samples, one row each: image, label and prediction of every task; no file without samples."""
    if not samples:
        return
    titles = ["image", *(f"{name} {what}" for name in tasks for what in ("label", "prediction"))]
    draw_grid([_row(sample, tasks) for sample in samples], titles, path)


def draw_grid(
    rows: Sequence[Sequence[Picture]], titles: Sequence[str], path: Path, names: Sequence[str] | None = None
) -> None:
    """Write rows of (H, W, 3) pictures, one for every title, as one PNG; ``names`` are written into each row's first."""
    height, width = rows[0][0].shape[:2]
    figure = Figure(figsize=(CELL_INCHES * len(titles), CELL_INCHES * len(rows) * height / width + 0.3))
    cells = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, row in zip(cells, rows, strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.imshow(picture, interpolation="auto")  # thin lines survive being made smaller
            axis.set_axis_off()
    for axis, name in zip(cells[:, 0], names or (), strict=names is not None):
        box = {"facecolor": "black", "edgecolor": "none", "pad": 1}
        axis.text(0.01, 0.98, name, fontsize=6, color="white", va="top", bbox=box, transform=axis.transAxes)
    for axis, title in zip(cells[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    figure.subplots_adjust(
        left=0.002, right=0.998, bottom=0.002, top=1 - 0.3 / figure.get_figheight(), wspace=0.02, hspace=0.02
    )
    figure.savefig(path, dpi=120)


def label_pictures(sample: transforms.Sample, tasks: Mapping[str, Task]) -> list[Picture]:
    """Return the picture of an untransformed sample's image, and of each task's label with invalid pixels marked."""
    labels = {name: label_values(sample[name], task.target) for name, task in tasks.items()}
    return [sample[IMAGE].astype(np.uint8), *(task.colorize(labels[name]) for name, task in tasks.items())]


@torch.no_grad()
def _samples(module: MultiTaskModule, batch: Batch) -> list[Sample]:
    training = module.training
    module.eval()
    prediction = module(batch["image"], batch["valid"])
    module.train(training)
    values = postprocess(module.tasks, prediction.final)
    return [_sample(batch, values, index) for index in range(len(batch["id"]))]


def _sample(batch: Batch, values: Mapping[str, Tensor], index: int) -> Sample:
    window = valid_window(batch["valid"][index, 0])
    image = (batch["image"][index][:, *window].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    labels, own = (
        {name: maps[name][index][:, *window].cpu() for name in values} for maps in (batch["targets"], values)
    )
    return Sample(batch["id"][index], image, labels, own)


def _row(sample: Sample, tasks: Mapping[str, Task]) -> list[Picture]:
    pairs = [(sample.labels[name], sample.values[name]) for name in tasks]
    return [sample.image, *(task.colorize(m) for task, pair in zip(tasks.values(), pairs, strict=True) for m in pair)]
