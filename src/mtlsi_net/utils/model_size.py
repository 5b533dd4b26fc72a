"""Parameters and operations of a network, counted without running it."""

from typing import TypedDict

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


class ModelSize(TypedDict):
    """Parameters in millions; operations in GFLOP of one image (a multiply-add counts 2)."""

    image_size: list[int]
    parameters_m: float
    encoder_parameters_m: float
    decoder_parameters_m: float
    trainable_parameters_m: float
    gflop: float
    encoder_gflop: float
    decoder_gflop: float


def measure_size(network: nn.Module, image_size: tuple[int, int]) -> ModelSize:
    """Count on the meta device (on the CPU, fused attention would be missed); the network itself is left alone.

    Args:
        network: has its backbone as ``encoder``; everything else counts as decoder.
        image_size: (height, width).
    """
    encoder = network.get_submodule("encoder")
    training = network.training
    network.eval()
    on_meta = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    with torch.no_grad(), FlopCounterMode(display=False, depth=2) as counter:
        functional_call(network, on_meta, (torch.empty(1, 3, *image_size, device="meta"),))
    network.train(training)
    total = counter.get_total_flops()
    by_module = counter.get_flop_counts()
    inside = sum(by_module.get(f"{type(network).__name__}.encoder", {}).values())
    return {
        "image_size": list(image_size),
        "parameters_m": _millions(network),
        "encoder_parameters_m": _millions(encoder),
        "decoder_parameters_m": round(_millions(network) - _millions(encoder), 4),
        "trainable_parameters_m": sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6,
        "gflop": total / 1e9,
        "encoder_gflop": inside / 1e9,
        "decoder_gflop": (total - inside) / 1e9,
    }


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6
