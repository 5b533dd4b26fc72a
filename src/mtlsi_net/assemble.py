"""From a configuration to objects: the only wiring code."""

import inspect
import logging
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from torch import Tensor, nn

from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.lit.callbacks import ExponentialAverage
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.network import DenseNetwork
from mtlsi_net.tasks.base import Task
from mtlsi_net.utils.errors import UserError, nearest_names
from mtlsi_net.utils.run_folder import RunFolder

log = logging.getLogger(__name__)

MAX_PRIOR_IMAGES = 500
"""Training images read for the priors, evenly spaced (our choice: all of NYUDv2 would change the third digit)."""


def check_options(node: Any, path: str = "") -> None:  # noqa: ANN401 - any part of a configuration
    """Check that every class named by the configuration takes the options given to it.

    An ablation sets options of a stage; on a network without that stage, or with another one there, they would end in
    a constructor's traceback.

    Raises:
        UserError: names the option, and the nearest that the class has.
    """
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        try:
            accepted = inspect.signature(get_object(str(node["_target_"]))).parameters
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{path}._target_={node['_target_']} cannot be imported: {error}") from None
        anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values())
        for key in (str(key) for key in node if not str(key).startswith("_")):
            if key not in accepted and not anything:
                owner = str(node["_target_"]).rpartition(".")[2]
                raise UserError(f"{path}.{key} is set, but {owner} has no {key!r}; {nearest_names(key, accepted)}")
    for key, value in node.items():
        check_options(value, f"{path}.{key}".lstrip("."))


def check_complete(cfg: DictConfig) -> None:
    """Check that every setting that has no default (``???``) was given.

    Raises:
        UserError: names those that were not.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{', '.join(missing)} must be given: {missing[0]}=... (see the comments in conf/)")


def build_tasks(cfg: DictConfig) -> dict[str, Task]:
    """Return the tasks of the run, in the order of the configuration."""
    tasks: dict[str, Task] = dict(instantiate(cfg.tasks, _convert_="all"))
    if not tasks:
        raise UserError("no task is left to train; keep at least one of the task set")
    return tasks


def build_data(cfg: DictConfig, tasks: Mapping[str, Task]) -> MultiTaskDataModule:
    """Return the data module, its files generated where it can and all of them checked."""
    targets = {name: task.target for name, task in tasks.items()}
    data: MultiTaskDataModule = instantiate(cfg.data, _convert_="all")(targets=targets)
    data.prepare_data()
    data.setup()
    return data


def build_network(cfg: DictConfig, tasks: Mapping[str, Task]) -> DenseNetwork:
    """Return the network with its encoder's weights loaded."""
    encoder = instantiate(cfg.backbone, _convert_="all")
    network: DenseNetwork = instantiate(cfg.model, _convert_="all")(
        encoder=encoder,
        task_channels={name: task.channels for name, task in tasks.items()},
        activations={name: task.activate for name, task in tasks.items()},
    )
    return network


def fit_priors(data: MultiTaskDataModule, tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    """Return each task's best constant raw output (K,), from the training labels."""
    labelled = data.datasets["train_plain"]
    chosen = np.unique(np.linspace(0, len(labelled) - 1, MAX_PRIOR_IMAGES).round().astype(int))

    def statistics(index: int) -> dict[str, Tensor]:
        labels = labelled.labels(int(index))
        return {name: task.statistics(labels[name][None]) for name, task in tasks.items()}

    totals: dict[str, Tensor] = {}
    with ThreadPoolExecutor() as pool:
        for found in track(pool.map(statistics, chosen), "label priors", total=len(chosen), transient=True):
            totals = {name: totals.get(name, torch.zeros_like(value)) + value for name, value in found.items()}
    return {name: task.prior(totals[name]) for name, task in tasks.items()}


def build_module(cfg: DictConfig, network: nn.Module, tasks: Mapping[str, Task], **rest: Any) -> MultiTaskModule:  # noqa: ANN401
    """Return the LightningModule; ``rest`` holds its priors and config."""
    weighting = instantiate(cfg.task_weights, tasks=list(tasks), _convert_="all")
    recipe = instantiate(cfg.optim, _convert_="all")
    return MultiTaskModule(network, tasks, weighting, recipe, **rest)


def build_trainer(cfg: DictConfig, folder: RunFolder, data: MultiTaskDataModule) -> L.Trainer:
    """Return the trainer with loggers and callbacks."""
    loggers = list(instantiate(cfg.logger).values()) if cfg.get("logger") else False
    trainer: L.Trainer = instantiate(
        cfg.trainer, logger=loggers, callbacks=_callbacks(cfg, folder, data), default_root_dir=str(folder.root)
    )
    return trainer


def best_name(data: MultiTaskDataModule) -> str:
    """Return the name of the best checkpoint: without a held-out part it was chosen on the test set, and says so."""
    return "best" if data.dev_split else "best_on_test"


def _callbacks(cfg: DictConfig, folder: RunFolder, data: MultiTaskDataModule) -> list[Callback]:
    gain = f"{data.val_stage}/gain"
    options: dict[str, Any] = {"dirpath": folder.checkpoints, "enable_version_counter": False}
    callbacks: list[Callback] = [
        ModelCheckpoint(filename="last", every_n_train_steps=cfg.checkpoint_every, **options),
        ModelCheckpoint(filename=best_name(data), monitor=gain, mode="max", save_weights_only=True, **options),
    ]
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks.append(RichProgressBar(leave=False))
    if cfg.get("logger"):
        callbacks.append(LearningRateMonitor("step"))
    if cfg.optim.ema_decay is not None:
        callbacks.append(ExponentialAverage(cfg.optim.ema_decay))
    return callbacks


NOISE = ("litlogger", "litmodels", "TPU available", "`weights_only` was not set", "`Trainer.fit` stopped")
EXPECTED_WARNINGS = (
    "Experiment logs directory .* exists",  # the run folder is made before the logger starts
    ".*isinstance.treespec, LeafSpec",  # inside Lightning
    "The number of training batches",  # small data sets are fine
    "The '.*dataloader' does not have many workers",  # a choice of the configuration
)


def quieten_lightning() -> None:
    """Let every line be logged once (Hydra's handler prints it too) and drop tips and warnings that ask for nothing."""
    logging.getLogger("lightning").handlers.clear()
    logging.getLogger("lightning.pytorch").handlers.clear()
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not any(noise in record.getMessage() for noise in NOISE))
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
