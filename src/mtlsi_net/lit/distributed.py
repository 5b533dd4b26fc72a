"""The trainer among several processes: which settings work, and what follows from them."""

import logging

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig
from timm.layers import convert_sync_batchnorm
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import process_info
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.size import unreached_parameters

log = logging.getLogger(__name__)


def check_trainer(cfg: DictConfig) -> None:
    """Raise a UserError for a setting of ``trainer`` that concerns processes and does not work."""
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


def choose_strategy(cfg: DictConfig, find_unused: bool = False) -> str | DDPStrategy:
    """Return Lightning's strategy for the processes that there are; ``find_unused``: some parameters have no gradient."""
    if process_info().size == 1 and cfg.get("strategy", "auto") == "auto":
        return "auto"
    return DDPStrategy(find_unused_parameters=find_unused, gradient_as_bucket_view=True)


def has_unreached(module: MultiTaskModule, image_size: tuple[int, int]) -> bool:
    """Say whether several processes must look for parameters without gradient, as with ``task_weights.aux=0``.

    What cannot be found out (a network from outside) is looked for: that costs a little time, missing it an error.
    """
    if process_info().size == 1:
        return False
    unreached = unreached_parameters(module.network, image_size, bool(module.weighting.aux))
    if unreached:
        log.info("%d parameters have no loss, e.g. %s: processes look for them", len(unreached), unreached[0])
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


def synchronise_batch_norm(network: nn.Module, trainer: L.Trainer, wanted: bool) -> nn.Module:
    """Return the network with batch statistics taken over all processes, where it has any and that is ``wanted``.

    By timm's function: torch's own, which Lightning uses, loses the activation inside timm's layers.
    """
    has_any = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())
    if not (wanted and has_any and trainer.world_size > 1):
        return network
    if trainer.strategy.root_device.type != "cuda":
        raise UserError(
            "trainer.sync_batchnorm=true needs GPUs: set it to false (statistics are then each process's own), or "
            "train without batch norm"
        )
    return convert_sync_batchnorm(network)
