"""Parameters and operations of a network, counted without running it."""

import logging
import math
from typing import TypedDict

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.weights import brief

log = logging.getLogger(__name__)


class ModelSize(TypedDict):
    """Parameters in millions; operations in GFLOP of one image (a multiply-add counts 2).

    Encoder and decoder values are NaN if the network has no child ``encoder``, operations if they cannot be counted.
    """

    image_size: list[int]
    parameters_m: float
    encoder_parameters_m: float
    decoder_parameters_m: float
    trainable_parameters_m: float
    gflop: float
    encoder_gflop: float
    decoder_gflop: float


def measure_size(network: nn.Module, image_size: tuple[int, int]) -> ModelSize:
    """Count on the meta device (on the CPU, fused attention would be missed) for an image of (height, width).

    The network is not changed; its child ``encoder`` is its backbone, everything else counts as decoder.
    """
    encoder = dict(network.named_children()).get("encoder")
    parameters, encoder_parameters = _millions(network), math.nan if encoder is None else _millions(encoder)
    total, inside = _gflop(network, image_size)
    encoder_gflop = math.nan if encoder is None else inside
    return {
        "image_size": list(image_size),
        "parameters_m": parameters,
        "encoder_parameters_m": encoder_parameters,
        "decoder_parameters_m": round(parameters - encoder_parameters, 4),
        "trainable_parameters_m": sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6,
        "gflop": total,
        "encoder_gflop": encoder_gflop,
        "decoder_gflop": total - encoder_gflop,
    }


def _gflop(network: nn.Module, image_size: tuple[int, int]) -> tuple[float, float]:
    """Return the operations of the network and of its child ``encoder``; NaN if it does not run on the meta device."""
    on_meta = _on_meta(network)
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False, depth=2) as counter:
            functional_call(network, on_meta, (torch.empty(1, 3, *image_size, device="meta"),))
    except UserError:  # the network's error about its output
        raise
    except Exception as error:  # an external network may read values, or call custom kernels
        log.warning("cannot count operations: %s on the meta device (%s)", type(error).__name__, brief(error))
        return math.nan, math.nan
    finally:
        network.train(training)
    inside = sum(counter.get_flop_counts().get(f"{type(network).__name__}.encoder", {}).values())
    return counter.get_total_flops() / 1e9, inside / 1e9


def _on_meta(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers without values, by name."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad) for name, tensor in tensors
    }


def unreached_parameters(network: nn.Module, image_size: tuple[int, int], aux: bool) -> list[str] | None:
    """Return the trainable parameters that no loss depends on; None if the network does not run on the meta device.

    ``aux``: preliminary predictions have losses.
    """
    on_meta = {f"network.{name}": tensor for name, tensor in _on_meta(network).items()}
    try:
        found: list[str] = functional_call(
            _Backward(network, aux), on_meta, (torch.empty(2, 3, *image_size, device="meta"),)
        )
    except Exception as error:  # as above
        log.debug("%s on the meta device (%s)", type(error).__name__, brief(error))
        return None
    return found


class _Backward(nn.Module):
    """Forward and backward pass in one call: what is recomputed on the way back meets the same tensors."""

    def __init__(self, network: nn.Module, aux: bool) -> None:
        super().__init__()
        self.network, self.aux = network, aux

    def forward(self, image: torch.Tensor) -> list[str]:
        """Return the names of the trainable parameters without gradient."""
        trained = {name: tensor for name, tensor in self.network.named_parameters() if tensor.requires_grad}
        with torch.enable_grad():
            prediction = self.network(image)
            reached = [*prediction.final.values(), *prediction.regularisers.values()]
            reached += [output for outputs in prediction.aux for output in outputs.values()] if self.aux else []
            total = torch.stack([output.float().sum() for output in reached]).sum()
            gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
        return [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6
