"""Parts that tests of networks share."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.encoder import Encoder

CONF_MODEL = Path(__file__).parents[2] / "conf" / "model"
MODELS = sorted(path.stem for path in CONF_MODEL.glob("[!_]*.yaml") if path.stem != "external")
"""Every network of conf/model but the one that needs somebody else's code."""
BASELINES = [name for name in MODELS if not name.startswith("mtlsi") and name != "plain"]

CHANNELS = {"semseg": 5, "depth": 1, "normals": 3}


class PatchEncoder(Encoder):
    """Maps of patches that see nothing but their own pixels: what crosses patches, the decoder did."""

    def __init__(self, strides: Sequence[int] = (4, 8, 16, 32), channels: int = 6) -> None:
        super().__init__()
        self.specs = [FeatureSpec(channels + i, stride) for i, stride in enumerate(strides)]
        self.mean, self.std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
        self.patches = nn.ModuleList(nn.Conv2d(3, s.channels, s.stride, s.stride) for s in self.specs)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [patch(image) for patch in self.patches]


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter away from 0 and 1, so that none can be left out of a computation unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def without_gradient(module: nn.Module) -> list[str]:
    """Return the parameters that the last backward pass did not reach, or reached with nothing but zeros."""
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
