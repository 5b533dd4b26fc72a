"""Attention maps: pictures of a network's most focused tokens in an image, and of the weights of CWIB's gate."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import Pixels
from mtlsi_net.engine.drawing import draw_cell, tile
from mtlsi_net.inference.model import Model
from mtlsi_net.inference.result import Result
from mtlsi_net.inference.tta import predict_tta
from mtlsi_net.inference.views import Viewing
from mtlsi_net.models.base import DenseNetwork
from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.recorder import Activations, most_focused, record_activations
from mtlsi_net.models.semantic_decoder import Gate
from mtlsi_net.tasks.base import valid_window
from mtlsi_net.tasks.colors import Legend, color_scalars, scalar_legend

TOKENS_SHOWN = 3
CELL = 320


def check_maps(model: Model) -> None:
    """Raise a UserError if the network has neither semantic tokens nor gates."""
    if not any(isinstance(module, SemanticTokenDistiller | Gate) for module in model.network.modules()):
        name = type(model.network).__name__
        raise UserError(f"maps=true: {name} has no semantic tokens and no gates; omit maps=true")


def draw_maps(model: Model, result: Result, path: Path, viewing: Viewing | None = None) -> None:
    """Draw, for each task, the gate of the last block and the most focused tokens, as far as the network has them."""
    network = model.network
    masks: list[Tensor] = []
    with (
        record_activations(network) as recorded,
        network.register_forward_pre_hook(lambda _, args: masks.append(args[1])),
    ):
        predict_tta(model, result.image[None], Viewing(size=viewing.size if viewing else None))
    assert isinstance(network, DenseNetwork)

    def spread(grid: Tensor, stride: int) -> Tensor:
        """Return (h, w) values of a grid of ``stride`` at the image's size."""
        fine = F.interpolate(grid[None, None], scale_factor=stride, mode="bilinear", align_corners=False)
        rows, columns = valid_window(masks[0][0, 0])
        cut = fine[..., rows, columns]
        return F.interpolate(cut, result.image.shape[:2], mode="bilinear", align_corners=False)[0, 0]

    tokens = min(TOKENS_SHOWN, recorded.assignments[0].shape[2]) if recorded.assignments else 0
    cells = [cell for name in model.tasks for cell in _row(model, recorded, name, result.image, spread)]
    tile(cells, tokens + bool(recorded.gates)).save(path)


def _row(
    model: Model, recorded: Activations, name: str, image: Pixels, spread: Callable[[Tensor, int], Tensor]
) -> list[Image.Image]:
    cells = []
    assert isinstance(model.network, DenseNetwork)
    if recorded.gates:
        gates = recorded.gates[-1][0]
        names = model.network.task_names if len(gates) == len(model.network.task_names) else model.trained
        gate = spread(gates[list(names).index(name)], model.network.decoder_stride)[None]
        legend = dataclasses.replace(scalar_legend(0, 1, ""), low="global", high="local")
        cells.append(draw_cell(color_scalars(gate, 0, 1), f"{name}: gate", legend, CELL))
    if recorded.assignments:
        tokens = recorded.assignments[0][0][model.trained.index(name)]
        for k, positions in most_focused(tokens, TOKENS_SHOWN):
            title = f"{name}: token {k}, {positions:.0f} positions"
            cells.append(draw_cell(_glow(image, spread(tokens[k], model.network.stride)), title, Legend(), CELL))
    return cells


def _glow(image: Pixels, token: Tensor) -> Pixels:
    """Return the image in grey, with a token's assignment (H, W) overlaid in colour."""
    share = token.numpy() / max(float(token.max()), 1e-12)
    warm = matplotlib.colormaps["magma"](share)[..., :3] * 255
    mixed: Pixels = (0.45 * image.mean(2, keepdims=True) + 0.55 * warm).clip(0, 255).astype(np.uint8)
    return mixed
