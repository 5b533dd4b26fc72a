"""Optimiser and learning-rate schedule: parameter groups, warm-up, polynomial decay."""

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.encoder import Encoder

NOT_DECAYED = ("bias", "scale", "logits", "task_embedding", "position_bias")
ENCODER_PREFIX = "encoder."
FUSED_ON = {"cpu", "cuda"}
OptimizerFactory = Callable[..., torch.optim.Optimizer]


def check_at_least_zero(name: str, value: float) -> None:
    """Raise an InputError if an argument is negative or not finite."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name}={value} is out of range; give a number of at least 0")


def poly_factor(step: int, max_steps: int, *, power: float = 0.9, warmup_steps: int = 0) -> float:
    """Return the factor of the base learning rate after ``step`` optimiser steps: linear warm-up, then poly decay to 0.

    Without warm-up it is (1 - step / max_steps) ** power, the lineage's schedule (docs/protocol/index.md).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return float(max(0.0, 1 - (step - warmup_steps) / max(1, max_steps - warmup_steps)) ** power)


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and parameter groups of a training run."""

    optimizer: OptimizerFactory  # partial of a torch optimiser; takes the parameter groups
    lr: float  # base learning rate
    weight_decay: float  # as the optimiser understands it (L2 in the gradient for Adam, decoupled for AdamW)
    power: float = 0.9  # of the polynomial schedule
    warmup_steps: int = 0  # optimiser steps of linear warm-up
    halve_at: float | None = None  # share of the steps after which the learning rate is half as large; None: never
    decoder_lr_factor: float = 1.0  # decoder learning rate over encoder's
    layer_decay: float = 1.0  # factor of the learning rate from one encoder block to the one below it; 1.0 is none
    decay_all: bool = True  # whether norms, biases, scales and embeddings are decayed too (the lineage does)
    ema_decay: float | None = None  # of a running average of the weights, reported beside the raw ones; None is none

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one is out of its range.
        """
        for name in ("lr", "weight_decay", "power", "warmup_steps", "decoder_lr_factor", "layer_decay"):
            check_at_least_zero(name, getattr(self, name))
        if self.halve_at is not None and not 0 < self.halve_at < 1:
            raise InputError(
                f"halve_at={self.halve_at} is out of range; give a share of the steps between 0 and 1, or null"
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay={self.ema_decay} is out of range; give at least 0 and less than 1, or null")

    def check_network(self, network: nn.Module) -> None:
        """Check that the network has the parts whose learning rates shall differ.

        Raises:
            InputError: it has no encoder.
        """
        if (self.layer_decay, self.decoder_lr_factor) != (1, 1) and not hasattr(network, "encoder"):
            raise InputError(
                f"optim.layer_decay={self.layer_decay} or optim.decoder_lr_factor={self.decoder_lr_factor} cannot work: "
                f"{type(network).__name__} has no encoder to tell from a decoder; set both to 1"
            )

    def too_short(self, max_steps: int) -> list[str]:
        """Return what so few steps are too short for, in words."""
        told = []
        if self.warmup_steps >= max_steps:
            told.append(
                f"optim.warmup_steps={self.warmup_steps}: in {max_steps} steps the learning rate neither reaches optim.lr "
                "nor falls"
            )
        first = 0.0 if self.ema_decay is None else self.ema_decay ** (max_steps - 1)
        if first > 0.05:
            told.append(
                f"optim.ema_decay={self.ema_decay}: after {max_steps} steps the averaged weights are {first:.0%} those of the "
                "first step"
            )
        return told

    def parameter_groups(self, network: nn.Module) -> list[dict[str, object]]:
        """Return groups of equal learning rate and decay; one single group where nothing differs."""
        depths, top = _encoder_depths(network)
        embeddings = _encoder_embeddings(network)
        grouped: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            inside = name.startswith(ENCODER_PREFIX)
            depth = depths.get(name.removeprefix(ENCODER_PREFIX), top)
            lr = self.lr * (self.layer_decay ** (top - depth) if inside else self.decoder_lr_factor)
            decayed = self.decay_all or (_is_matrix(name, parameter) and name not in embeddings)
            decay = self.weight_decay if decayed else 0.0
            grouped[lr, decay].append(parameter)
        return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in grouped.items()]

    def build(
        self, network: nn.Module, max_steps: int, more_groups: Iterable[dict[str, object]] = (), *, fused: bool = False
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return the optimiser of the network and ``more_groups``, and the schedule to be stepped after every step.

        ``fused`` updates all parameters by one kernel, where the optimiser and the parameters' device have one, unless the
        optimiser's own settings say how it steps.

        Raises:
            InputError: they say so in a way that cannot train.
        """
        groups = [*self.parameter_groups(network), *more_groups]
        own = inspect.signature(self.optimizer).parameters
        devices = {parameter.device.type for parameter in network.parameters()}
        chosen: Mapping[str, object] = getattr(self.optimizer, "keywords", {})
        if chosen.get("differentiable"):
            raise InputError("differentiable=true cannot step a network's weights; leave it out")
        can = "fused" in own and devices <= FUSED_ON and not {"fused", "foreach"} & chosen.keys()
        optimizer = self.optimizer(groups, fused=True) if fused and can else self.optimizer(groups)
        power, warmup, halve_at = self.power, self.warmup_steps, self.halve_at

        def factor(step: int) -> float:
            late = halve_at is not None and step >= halve_at * max_steps
            return poly_factor(step, max_steps, power=power, warmup_steps=warmup) * (0.5 if late else 1.0)

        return optimizer, LambdaLR(optimizer, factor)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Say whether a parameter is a layer's matrix; a decoder's norms and biases have a task axis, so shape does not tell."""
    owner, _, last = name.rpartition(".")
    norm = "norm" in owner.rpartition(".")[2] and not name.startswith(ENCODER_PREFIX)
    return parameter.ndim > 1 and last not in NOT_DECAYED and not norm


def _encoder_depths(network: nn.Module) -> tuple[dict[str, int], int]:
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        return {}, 0
    return encoder.parameter_depths(), encoder.num_layers


def _encoder_embeddings(network: nn.Module) -> set[str]:
    encoder = getattr(network, "encoder", None)
    return {ENCODER_PREFIX + name for name in encoder.embeddings()} if isinstance(encoder, Encoder) else set()
