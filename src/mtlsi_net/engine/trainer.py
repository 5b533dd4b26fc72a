"""Factory of the Lightning trainer: module, callbacks, loggers and run folder of a configuration."""

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, EarlyStopping, LearningRateMonitor
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mtlsi_net.core import ranks
from mtlsi_net.core.config import check_options, instantiate_node, refuse_choice_on_test, resolved
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import write_text
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.resolvers import choose_precision
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.lit.callbacks import ExponentialAverage, MonitorCheck, NormStatistics, ProgressBar
from mtlsi_net.lit.checkpoint_io import SafeCheckpointIO
from mtlsi_net.lit.distributed import (
    SyncBatchNorm,
    check_processes,
    check_trainer,
)
from mtlsi_net.lit.interruption import LastCheckpoint
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.optim import Recipe
from mtlsi_net.lit.origin import Origin
from mtlsi_net.lit.resumption import Resumption
from mtlsi_net.lit.weighting import FixedWeights
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.metrics import Scores


@dataclass(frozen=True)
class Evaluator:
    """Scores a module on a data module's splits."""

    trainer: L.Trainer
    module: MultiTaskModule
    data: MultiTaskDataModule

    def score(self, split: str) -> Scores:
        """Return task -> metric -> value on ``val``, ``val_limited`` or ``train_scored``."""
        self.module.stage = "train" if split == "train_scored" else self.data.val_stage
        self.data.scored_split = split
        self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        return self.module.scores[self.module.stage]


@dataclass(frozen=True)
class RunResult:
    """Folder of a trained or evaluated run, and its mean skill over the constant prediction."""

    folder: RunFolder
    skill: float


def open_run(cfg: DictConfig) -> tuple[RunFolder, dict[str, Any]]:
    """Return the run folder, created, and the resolved configuration, its options checked.

    Raises:
        UserError: an option that its class does not have, a trainer that cannot work, or a folder that cannot be written.
    """
    if "trainer" in cfg:
        check_trainer(cfg.trainer)
        cfg.trainer.precision = choose_precision(str(cfg.trainer.precision), str(cfg.trainer.accelerator))
    config: Any = modernize(resolved(cfg))
    check_options(config)
    folder = RunFolder(Path(cfg.paths.run_dir))
    folder.create()
    quieten_lightning()
    return folder, config


def open_scoring(cfg: DictConfig) -> tuple[RunFolder, dict[str, Any]]:
    """Return what ``open_run`` does, for a command that trains nothing; the configuration is in the folder.

    Raises:
        UserError: as ``open_run``, or the folder is that of a trained run.
    """
    RunFolder(Path(cfg.paths.run_dir)).refuse_trained("paths.run_dir")
    folder, config = open_run(cfg)
    write_config(folder, config)
    return folder, config


def write_config(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Write the resolved configuration into the run folder; the first process does."""
    if ranks.is_rank_zero():
        write_text(folder.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def check_recipe(cfg: DictConfig) -> None:
    """Raise a UserError for arguments that the optimiser or the loss weighting refuses; nothing of the data is needed."""
    recipe: Recipe = instantiate_node(cfg, "optim")
    try:
        recipe.build(nn.Linear(1, 1, bias=False), max_steps=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"optim.optimizer: {' '.join(str(error).split())}") from error
    instantiate_node(cfg, "task_weights", tasks=list(cfg.tasks))


def build_module(cfg: DictConfig, network: nn.Module, tasks: Mapping[str, Task], **rest: Any) -> MultiTaskModule:  # noqa: ANN401
    """Return the LightningModule; ``rest`` holds its priors and config."""
    weighting = instantiate_node(cfg, "task_weights", tasks=list(tasks))
    checks = {"loss_norm": cfg.get("loss_norm", "device"), "non_finite": cfg.get("non_finite", "stop")}
    return MultiTaskModule(network, tasks, weighting, instantiate_node(cfg, "optim"), **checks, **rest)


def build_scored_module(network: nn.Module, tasks: Mapping[str, Task], **rest: Any) -> MultiTaskModule:  # noqa: ANN401
    """Return a LightningModule that is scored and never trained; ``rest`` holds its priors and config."""
    weighting = FixedWeights(list(tasks))
    return MultiTaskModule(network, tasks, weighting, Recipe(torch.optim.SGD, lr=0.0, weight_decay=0.0), **rest)


def build_training(
    cfg: DictConfig,
    folder: RunFolder,
    module: MultiTaskModule,
    data: MultiTaskDataModule,
    how: str = "resume with ckpt=last",
    origin: Origin | None = None,
) -> L.Trainer:
    """Return the trainer that trains ``module`` on ``data``; ``how`` is the instruction for resuming an interrupted run.

    ``origin`` records the run that this one starts from.
    """
    callbacks = [NormStatistics(constant=cfg.get("compile", False)), *training_callbacks(cfg, how), origin or Origin()]
    trainer = build_trainer(cfg, folder, callbacks, micro_batches=data.micro_batches)
    data.counts_labels = module.norm_globally
    module.estimates, module.limited = data.estimates, data.training_split != "val"
    module.stage, data.scored_split = data.val_stage, data.training_split
    return trainer


def build_trainer(
    cfg: DictConfig, folder: RunFolder, callbacks: Sequence[Callback] = (), micro_batches: int = 1
) -> L.Trainer:
    """Return the trainer of ``cfg.trainer`` with loggers, a progress bar, and the callbacks of training if it shall train.

    Lightning counts validations' interval in micro-batches, ``cfg.trainer`` in optimiser steps of ``micro_batches``; null is
    none on the way.
    """
    parts: dict[str, Any] = {}
    interval = cfg.trainer.get("val_check_interval")
    if micro_batches > 1:
        limit = cfg.trainer.get("limit_train_batches")
        parts["accumulate_grad_batches"] = micro_batches
        if isinstance(limit, int):
            parts["limit_train_batches"] = limit * micro_batches
        parts["val_check_interval"] = interval * micro_batches if isinstance(interval, int) else interval
    if interval is None and not _validates_by_epochs(cfg.trainer):
        parts["val_check_interval"] = sys.maxsize  # Lightning takes None for the end of every epoch
    loggers = list(instantiate_node(cfg, "logger", _convert_="none").values()) if cfg.get("logger") else False
    shows = cfg.trainer.get("enable_progress_bar", True)
    bar = [ProgressBar(cfg.trainer.get("log_every_n_steps") or 0)] if shows else []
    trainer: L.Trainer = instantiate_node(
        cfg,
        "trainer",
        _convert_="none",
        **parts,
        logger=loggers,
        callbacks=[*callbacks, *bar],
        enable_checkpointing=bool(callbacks),
        plugins=[SafeCheckpointIO(), *([SyncBatchNorm()] if cfg.trainer.get("sync_batchnorm") else [])],
        default_root_dir=str(folder.root),
    )
    check_processes(trainer)
    # Lightning's handlers save in the middle of a step, and communicate inside a handler
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


ALWAYS = ("step_seeds", "best_checkpoint", "last_checkpoint")
"""Callbacks without which no run can be resumed or scored."""


def training_callbacks(cfg: DictConfig, how: str) -> list[Callback]:
    """Return the callbacks of ``cfg.callbacks``, and a check of what they monitor.

    ``how`` is the instruction for resuming an interrupted run.

    Raises:
        UserError: a callback that every run needs is left out, or one could never act.
    """
    made = instantiate_node(with_callbacks(cfg), "callbacks")
    callbacks: dict[str, Callback] = {name: callback for name, callback in made.items() if callback is not None}
    missing = [name for name in ALWAYS if name not in callbacks]
    if missing:
        raise UserError(
            f"callbacks lacks {', '.join(missing)}, which every run needs: add others to the default ones, as in "
            "callbacks=[default,early_stopping]"
        )
    for name, callback in list(callbacks.items()):
        idle = isinstance(callback, ExponentialAverage) and callback.decay is None
        if idle or (isinstance(callback, LearningRateMonitor | DeviceStatsMonitor) and not cfg.get("logger")):
            del callbacks[name]
        if isinstance(callback, LastCheckpoint):
            callback.how = how
        if isinstance(callback, EarlyStopping):
            if callback.monitor.partition("/")[0] == "val":
                refuse_choice_on_test(cfg, f"callbacks.{name}")
            _check_validates(cfg.trainer, name)
            _check_can_stop(cfg.trainer, name, callback)
    best = callbacks["best_checkpoint"]
    if (getattr(best, "mode", ""), str(getattr(best, "monitor", "")).partition("/")[2]) != ("max", "skill"):
        raise UserError(
            "callbacks.best_checkpoint keeps the highest skill: give a checkpoint of another metric another name"
        )
    monitors = {
        name: monitor for name, callback in callbacks.items() if (monitor := getattr(callback, "monitor", None))
    }
    return [MonitorCheck(monitors), Resumption(), *callbacks.values()]


def with_callbacks(cfg: DictConfig) -> DictConfig:
    """Return a configuration with ``callbacks``; one written before they were configured gets the default ones."""
    if "callbacks" in cfg:
        return cfg
    files = (resources.files("mtlsi_net.conf") / f"callbacks/{n}.yaml" for n in ("default", "learning_rate_monitor"))
    nodes = (item for file in files for item in OmegaConf.create(file.read_text()).items())
    default = {str(name): node for name, node in nodes if name != "defaults"}
    full = OmegaConf.merge(OmegaConf.create({"max_time": None}), cfg, {"callbacks": default})
    assert isinstance(full, DictConfig)
    return full


def _validates_by_epochs(trainer: DictConfig) -> bool:
    return trainer.get("check_val_every_n_epoch", 1) is not None  # Lightning's default


def _check_validates(trainer: DictConfig, name: str) -> None:
    """Raise a UserError if training ends before a validation, when alone the callback ``name`` acts."""
    interval = trainer.get("val_check_interval")
    steps = trainer.get("max_steps", -1)
    never = not _validates_by_epochs(trainer) and (interval is None or (steps != -1 and interval > steps))
    if never or trainer.get("limit_val_batches", 1) == 0:
        these = "this run has" if steps == -1 else f"these {steps} steps have"
        raise UserError(
            f"callbacks.{name} needs validations, but {these} none: set trainer.val_check_interval (now "
            f"{'null' if interval is None else interval}) to fewer steps"
        )


def _check_can_stop(trainer: DictConfig, name: str, callback: EarlyStopping) -> None:
    """Raise a UserError if the last step comes before ``patience`` validations can have passed without improvement.

    The first validation always improves. A threshold may stop earlier, and a single step is a test of the command.
    """
    interval, steps = trainer.get("val_check_interval"), trainer.get("max_steps", -1)
    counted = isinstance(interval, int) and not _validates_by_epochs(trainer)
    thresholds = (callback.stopping_threshold, callback.divergence_threshold)
    if not counted or steps in (-1, 1) or thresholds != (None, None) or callback._check_on_train_epoch_end:
        return
    earliest = (max(callback.patience, 1) + 1) * interval
    if earliest >= steps:
        raise UserError(
            f"callbacks.{name} cannot stop this run: with patience={callback.patience} and a validation every {interval} "
            f"steps it acts at step {earliest} at the earliest, and training ends at step {steps}; set a smaller patience or "
            "trainer.val_check_interval"
        )


NOISE = ("litlogger", "litmodels", "TPU available", "`weights_only` was not set", "`Trainer.fit` stopped")
EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists",  # made before, or that of a resumed run
    ".*isinstance.treespec, LeafSpec",  # inside Lightning
    "The number of training batches",  # small data sets are fine
    "The '.*dataloader' does not have many workers",  # a choice of the configuration
    "It is recommended to use .*sync_dist=True",  # scores are those of all processes already
    "The ``compute`` method of metric",  # of a process that had no image
)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return not any(noise in record.getMessage() for noise in NOISE)


def quieten_lightning() -> None:
    """Let every line be logged once (Hydra's handler prints it too) and drop tips and warnings that ask for nothing."""
    logging.getLogger("lightning").handlers.clear()
    logging.getLogger("lightning.pytorch").handlers.clear()
    talkative = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")
    for name in ("lightning.fabric.utilities.rank_zero", *(f"lightning.pytorch.{part}" for part in talkative)):
        logging.getLogger(name).addFilter(_is_worth_saying)  # once, however often it is added
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
