"""W&B dashboard: configuration, sizes, final scores and pictures beside the curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from mtlsi_net.core.io import flatten
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import KEPT, RunFolder
from mtlsi_net.core.types import IGNORE
from mtlsi_net.engine.pictures import Sample
from mtlsi_net.tasks.base import Task


def dashboards(loggers: Sequence[Logger]) -> list[WandbLogger]:
    """Return the W&B loggers among all; none but in the process that logs."""
    return [logger for logger in loggers if is_rank_zero() and isinstance(logger, WandbLogger)]


def log_config(loggers: Sequence[Logger], config: Mapping[str, Any], size: Mapping[str, Any]) -> None:
    """Send the whole configuration, and the network's parameters and operations as ``model_size``."""
    for logger in dashboards(loggers):
        logger.experiment.config.update({**config, "model_size": dict(size)}, allow_val_change=True)


def close(loggers: Sequence[Logger], results: Mapping[str, Any], gain: float, folder: RunFolder) -> None:
    """Put the final scores into the summary, ``last/val/semseg/mIoU``, ``best/...``, ``gain``, save files, end the run."""
    scores = flatten(results, "/")
    for logger in dashboards(loggers):
        logger.experiment.summary.update({**scores, "gain": gain})
        for name in KEPT:
            if (folder.root / name).is_file():
                logger.experiment.save(str(folder.root / name), base_path=str(folder.root.parent), policy="now")
        logger.experiment.finish()


def log_pictures(loggers: Sequence[Logger], samples: Sequence[Sample], tasks: Mapping[str, Task], stage: str) -> None:
    """Show each task's labels and predictions; classes as masks that can be switched on and off over the image."""
    panels = {
        f"pictures_{stage}/{name}": [_panel(sample, name, task) for sample in samples] for name, task in tasks.items()
    }
    for logger in dashboards(loggers):
        logger.experiment.log(panels)


def _panel(sample: Sample, name: str, task: Task) -> wandb.Image:
    both = {"label": sample.labels[name], "prediction": sample.values[name]}
    if task.class_names:
        names = dict(enumerate(task.class_names)) | {IGNORE: "unlabelled"}
        maps = {what: values[0].numpy().astype(np.uint8) for what, values in both.items()}
        masks = {what: {"mask_data": values, "class_labels": names} for what, values in maps.items()}
        return wandb.Image(sample.image, masks=masks, caption=sample.sample_id)
    pictures = [sample.image, *(task.colorize(values) for values in both.values())]
    return wandb.Image(np.concatenate(pictures, axis=1), caption=f"{sample.sample_id}: image, label, prediction")
