"""Dashboards of a run, in W&B and TensorBoard: final scores and pictures beside the curves; in W&B the configuration too."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from mtlsi_net.core.io import flatten
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import KEPT, RunFolder
from mtlsi_net.core.types import IGNORE
from mtlsi_net.engine.pictures import Sample
from mtlsi_net.tasks.base import Task, fit_pair

if TYPE_CHECKING:
    import wandb


def log_config(loggers: Sequence[Logger], config: Mapping[str, Any], size: Mapping[str, Any]) -> None:
    """Send the whole configuration to W&B, and the network's parameters and operations as ``model_size``."""
    for logger in _writing(loggers):
        if isinstance(logger, WandbLogger):
            logger.experiment.config.update({**config, "model_size": dict(size)}, allow_val_change=True)


def close(loggers: Sequence[Logger], results: Mapping[str, Any], skill: float, folder: RunFolder) -> None:
    """Log the final scores, ``last/val/semseg/mIoU``, ``best/...``, ``skill``; in W&B also save files, and end the run."""
    scores = {**flatten(results, "/"), "skill": skill}
    for logger in _writing(loggers):
        if isinstance(logger, TensorBoardLogger):
            for key, value in scores.items():
                if isinstance(value, int | float):
                    logger.experiment.add_scalar(key, value)
            logger.save()
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(scores)
            for name in KEPT:
                if (folder.root / name).is_file():
                    logger.experiment.save(str(folder.root / name), base_path=str(folder.root.parent), policy="now")
            logger.experiment.finish()


def log_pictures(loggers: Sequence[Logger], samples: Sequence[Sample], tasks: Mapping[str, Task], stage: str) -> None:
    """Show each task's labels and predictions; W&B gets classes as masks that can be switched on and off over the image."""
    for logger in _writing(loggers) if samples else []:
        if isinstance(logger, TensorBoardLogger):
            for sample, (name, task) in ((s, item) for s in samples for item in tasks.items()):
                key = f"pictures_{stage}/{name}/{sample.sample_id}"
                logger.experiment.add_image(key, _side_by_side(sample, name, task), dataformats="HWC")
        if isinstance(logger, WandbLogger):
            logger.experiment.log(
                {f"pictures_{stage}/{name}": [_panel(s, name, task) for s in samples] for name, task in tasks.items()}
            )


def _writing(loggers: Sequence[Logger]) -> Sequence[Logger]:
    """Return the loggers in the process that logs, none in others."""
    return loggers if is_rank_zero() else []


def _side_by_side(sample: Sample, name: str, task: Task) -> np.ndarray[Any, Any]:
    """Return image, label and prediction in one picture, (H, 3 W, 3) bytes."""
    label, value = sample.labels[name], sample.values[name]
    fitted, shown = fit_pair(task, label, value)
    return np.concatenate([sample.image, fitted.colorize(label), shown.colorize(value)], axis=1)


def _panel(sample: Sample, name: str, task: Task) -> "wandb.Image":
    import wandb  # only where it is chosen

    if not task.class_names or task.target.wide:  # its masks are of bytes
        picture = _side_by_side(sample, name, task)
        scale = fit_pair(task, sample.labels[name], sample.values[name])[1].legend(sample.values[name])
        between = f" ({scale.low} to {scale.high})" if scale.bar is not None else ""
        return wandb.Image(picture, caption=f"{sample.sample_id}: image, label, prediction{between}")
    names = dict(enumerate(task.class_names)) | {IGNORE: "unlabelled"}
    both = {"label": sample.labels[name], "prediction": sample.values[name]}
    maps = {what: values[0].numpy().astype(np.uint8) for what, values in both.items()}
    masks = {what: {"mask_data": values, "class_labels": names} for what, values in maps.items()}
    return wandb.Image(sample.image, masks=masks, caption=sample.sample_id)
