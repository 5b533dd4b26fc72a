"""Distributed training: checks of the trainer's settings, DDP strategy, synchronised batch norm."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import process_info
from mtlsi_net.core.timm_library import timm
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.layers.checkpointing import keep_statistics_once, keeps_statistics_once
from mtlsi_net.models.size import unreached_parameters

log = logging.getLogger(__name__)


FIXED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "callbacks": ((), "add callbacks to the group, +callbacks.NAME={_target_: ..., ...}"),
    "overfit_batches": ((0, 0.0), "debug=overfit trains on one batch"),
    "fast_dev_run": ((False, 0), "debug=one_batch tries everything once"),
    "reload_dataloaders_every_n_epochs": ((0,), "loaders stay the same"),
    "logger": ((), "choose loggers with logger=csv, tensorboard, wandb or many_loggers"),
    "plugins": ((), "checkpoints and batch norm have plugins of their own"),
    "default_root_dir": ((), "set paths.run_dir"),
    "enable_checkpointing": ((True,), "every run keeps last.ckpt and its best checkpoint; set checkpoint_every"),
    "gradient_clip_algorithm": (("norm",), "gradients are clipped by norm, see trainer.gradient_clip_val"),
    "use_distributed_sampler": ((False,), "the data module shares the samples out itself"),
}
"""Argument of Lightning's trainer that this suite sets itself -> values that say the same, and what to do instead."""


def check_trainer(cfg: DictConfig) -> None:
    """Raise a UserError for a setting of ``trainer`` that does not work."""
    _check_values(cfg)
    if cfg.get("max_time") is not None:  # Lightning's would end as if the run was finished
        raise UserError(
            f"trainer.max_time={cfg.max_time}: set max_time instead, which saves and ends with exit code 75"
        )
    for name, (allowed, instead) in FIXED.items():
        if cfg.get(name) not in (None, *allowed):
            raise UserError(f"trainer.{name}={cfg[name]} has no effect in this suite: {instead}")
    if not 0 <= (cfg.get("gradient_clip_val") or 0.0) < math.inf:
        raise UserError(f"trainer.gradient_clip_val={cfg.gradient_clip_val}: give at least 0; 0 does not clip")
    strategy = cfg.get("strategy", "auto")
    if strategy not in ("auto", "ddp"):
        raise UserError(
            f"trainer.strategy={strategy}: this suite trains and evaluates with ddp only (clipping, exact scores and "
            "checkpoints were made for it); set trainer=ddp, or trainer.strategy=auto"
        )
    if cfg.get("accumulate_grad_batches", 1) != 1:
        raise UserError(
            "trainer.accumulate_grad_batches follows from data.batch_size and data.micro_batch (the most images that a "
            "device takes at once): set that instead"
        )
    if cfg.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={cfg.accelerator}, but torch sees no GPU: set trainer=cpu or trainer=ddp_cpu"
        )


def _check_values(cfg: DictConfig) -> None:
    if cfg.get("limit_val_batches") == 0:
        raise UserError("trainer.limit_val_batches=0 leaves nothing to score: give at least 1, or null for all images")
    if str(cfg.get("precision")) in ("bf16-true", "16-true"):
        kind = str(cfg.precision).replace("true", "mixed")
        raise UserError(f"trainer.precision={cfg.precision}: weights stay in 32 bits here; set it to {kind} or 32-true")
    if str(cfg.get("devices")) in ("0", "[]"):
        raise UserError(f"trainer.devices={cfg.devices}: give at least 1, or auto; trainer=cpu takes no GPU")
    interval = cfg.get("val_check_interval")
    if isinstance(interval, float) and cfg.get("check_val_every_n_epoch", 1) is None:
        raise UserError(
            f"trainer.val_check_interval={interval}: give a whole number of steps; a share of an epoch needs "
            "trainer.check_val_every_n_epoch=1"
        )


class MultiTaskDDP(DDPStrategy):
    """DDP of ``strategy=ddp``, and of ``auto`` with several devices, for this suite's modules.

    It looks for parameters without gradient (``find_unused_parameters``) where the module has any: that costs time.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Lightning's
        super().__init__(**{"gradient_as_bucket_view": True, **options})

    def setup(self, trainer: L.Trainer) -> None:
        """Look at the module before it is moved and wrapped."""
        module = self.lightning_module
        if trainer.state.fn == TrainerFn.FITTING and isinstance(module, MultiTaskModule):
            size = trainer.datamodule.size  # type: ignore[attr-defined] # Lightning sets it outside __init__
            self._ddp_kwargs["find_unused_parameters"] = has_unreached(module, size)
        super().setup(trainer)


StrategyRegistry.register("ddp", MultiTaskDDP, "DDP of mtlsi_net", override=True)


def has_unreached(module: MultiTaskModule, image_size: tuple[int, int]) -> bool:
    """Say whether several processes must look for parameters without gradient, as with ``task_weights.aux=0``.

    What cannot be found out (a network from outside) is looked for: that costs a little time, missing it an error.
    """
    if process_info().size == 1:
        return False
    with torch.compiler.set_stance("force_eager"):  # no compiler takes the meta device
        unreached = unreached_parameters(module.network, image_size, bool(module.weighting.aux))
    if unreached:
        log.info(
            "%d parameters get no gradient, e.g. %s: DDP searches for them in every step", len(unreached), unreached[0]
        )
    return unreached is None or bool(unreached)


def check_processes(trainer: L.Trainer) -> None:
    """Raise a UserError unless there are as many processes as the trainer wants."""
    started, wanted = process_info(), trainer.num_devices * trainer.num_nodes
    if started.size == wanted:
        return
    asked = f"trainer.devices and num_nodes make {trainer.num_devices} x {trainer.num_nodes} = {wanted}"
    if not started.starter:
        raise UserError(
            f"{asked} processes, but this one runs alone: use the command, python -m mtlsi_net.train, which starts them"
        )
    raise UserError(f"{started.starter} started {started.size} processes, but {asked}: set them to what was started")


class SyncBatchNorm(TorchSyncBatchNorm):
    """What ``sync_batchnorm=true`` does to a network: statistics over all processes, by timm's function.

    torch's own function, Lightning's default, loses the activation inside timm's layers.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every batch norm of a LightningModule; a UserError on CPUs, where none can be converted."""
        assert isinstance(model, L.LightningModule)
        has_any = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
        if model.trainer.world_size == 1 or not has_any:
            return model
        if model.trainer.strategy.root_device.type != "cuda":
            raise UserError(
                "trainer.sync_batchnorm=true needs GPUs: set it to false (statistics are then each process's own), or "
                "train without batch norm"
            )
        recomputed = keeps_statistics_once(model)
        converted: nn.Module = timm.layers.convert_sync_batchnorm(model)
        if recomputed:  # new layers lack the hooks of those that they replace
            keep_statistics_once(converted)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the module as it is: in evaluation, synchronised batch norm computes what the plain one does."""
        return model
