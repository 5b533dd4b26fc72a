"""Pictures to look at: image, label and prediction side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.types import Batch
from mtlsi_net.data import transforms
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.dataset import collate
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.sampling import Draw
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.engine.drawing import draw_grid
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.tasks.base import Task, fit_pair, valid_window
from mtlsi_net.tasks.colors import INVALID_COLOR, Legend
from mtlsi_net.tasks.metrics import postprocess

SEED = 0
"""Chooses the images that are drawn: the same in all runs on the same data."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One image (H, W, 3) RGB, its padding cut away, with task -> (C, H, W) labels (255 invalid) and predicted values."""

    sample_id: str
    image: Picture
    labels: dict[str, Tensor]
    values: dict[str, Tensor]


def predict_samples(module: MultiTaskModule, data: MultiTaskDataModule, split: str, count: int) -> list[Sample]:
    """Return ``count`` images of a split, drawn at random by ``SEED``, in their order, with the module's predictions."""
    dataset, most = data.datasets[split], data.eval_batch_size
    order = np.random.default_rng(SEED).permutation(len(dataset))
    shown = sorted(order[:count].tolist())
    filling = order[count : -(-count // most) * most].tolist()  # whole batches, whose shape a compiled network knows
    indices, samples = [*shown, *filling], []
    for start in range(0, len(indices), most):
        batch = collate([dataset[Draw(0, index)] for index in indices[start : start + most]], dataset.reader.specs)
        samples += _samples(module, data.to_device(batch, module.device))
    return samples[: len(shown)]


def write_grid(samples: Sequence[Sample], tasks: Mapping[str, Task], path: Path) -> None:
    """Write samples, one row each: image, label and prediction of every task, with legends; no file without samples."""
    if not samples:
        return
    columns = [[sample.image for sample in samples]]
    titles: list[str] = [IMAGE]
    legends: dict[str, Legend] = {}
    for name, task in tasks.items():
        labels, values = [sample.labels[name] for sample in samples], [sample.values[name] for sample in samples]
        fitted, shown = fit_pair(task, _joined(labels), _joined(values))
        columns += [[fitted.colorize(label) for label in labels], [shown.colorize(value) for value in values]]
        titles += [f"{name} label", f"{name} prediction"]
        scales = _legend(fitted, labels, values), _legend(shown, values)
        one = scales[0].bar is None or scales[0].high == scales[1].high
        legends |= {name: scales[0]} if one else dict(zip(titles[-2:], scales, strict=True))
    draw_grid(list(zip(*columns, strict=True)), titles, path, [sample.sample_id for sample in samples], legends)


def write_labels(samples: Mapping[str, transforms.Sample], tasks: Mapping[str, Task], path: Path) -> None:
    """Write untransformed samples, id -> sample, one row each: image and label of every task, with legends."""
    labels = {
        name: [label_values(sample[name], task.target) for sample in samples.values()] for name, task in tasks.items()
    }
    fitted = {name: task.fitted(_joined(labels[name])) for name, task in tasks.items()}
    rows = [label_pictures(sample, fitted) for sample in samples.values()]
    legends = {name: _legend(task, labels[name]) for name, task in fitted.items()}
    draw_grid(rows, [IMAGE, *tasks], path, list(samples), legends)


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Return the pixels of maps (C, H, W) of any sizes as one map (C, 1, N)."""
    return torch.cat([values.float().flatten(1) for values in maps], dim=1)[:, None]


def _legend(task: Task, labels: Sequence[Tensor], more: Sequence[Tensor] = ()) -> Legend:
    """Return the legend of label maps (C, H, W), of ``more`` maps drawn alike, and of pixels without a label."""
    legend = task.legend(_joined([*labels, *more]))
    if not any((values == task.target.ignore).any() for values in labels):
        return legend
    return replace(legend, entries=(*legend.entries, ("no label", INVALID_COLOR)))


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
