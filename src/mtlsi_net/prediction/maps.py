"""Pictures of what a network looked at in an image: its most focused tokens, and how CWIB's gate weighs."""

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.data.transforms import VALID, pad
from mtlsi_net.inside import Inside, most_focused, watching
from mtlsi_net.models.network import DenseNetwork
from mtlsi_net.prediction.drawing import draw_cell, tile
from mtlsi_net.prediction.images import Pixels
from mtlsi_net.prediction.model import Model
from mtlsi_net.prediction.result import Result
from mtlsi_net.prediction.views import Viewing, base_scale, see
from mtlsi_net.tasks.base import valid_window
from mtlsi_net.tasks.colors import Legend, color_scalars, scalar_legend
from mtlsi_net.utils.errors import UserError

TOKENS_SHOWN = 3
CELL = 320


def draw_maps(model: Model, result: Result, path: Path) -> None:
    """Draw, for each task, the gate of the last block and the most focused tokens, seen in the whole image.

    Raises:
        UserError: the network has neither tokens nor gates.
    """
    with watching(model.network) as seen:
        see(model, result.image[None], Viewing())
    if not (seen.assignments or seen.gates):
        raise UserError(
            f"maps=true: {type(model.network).__name__} has neither semantic tokens nor gates; leave maps out"
        )
    where = _Placing(model, result.image)
    columns = min(TOKENS_SHOWN, seen.assignments[0].shape[2]) * bool(seen.assignments) + bool(seen.gates)
    cells = [cell for name in model.tasks for cell in _row(model, seen, name, where)]
    tile(cells, columns).save(path)


class _Placing:
    """Where the positions of the working grid lie in the image.

    Args:
        model: whose grid it is.
        image: (H, W, 3).
    """

    def __init__(self, model: Model, image: Pixels) -> None:
        assert isinstance(model.network, DenseNetwork)
        self.image, self.stride = image, model.network.canvas.stride
        scale = base_scale(model, image.shape[:2])
        seen = tuple(max(1, int(side * scale + 1e-6)) for side in image.shape[:2])
        padded = pad({"image": np.zeros((*seen, 3), np.uint8)}, model.size, {}, model.pad_color)[VALID]
        self.window = valid_window(torch.from_numpy(padded)[0])

    def spread(self, grid: Tensor) -> Tensor:
        """Return (h, w) values at the image's size."""
        fine = F.interpolate(grid[None, None], scale_factor=self.stride, mode="bilinear", align_corners=False)
        cut = fine[..., self.window[0], self.window[1]]
        return F.interpolate(cut, self.image.shape[:2], mode="bilinear", align_corners=False)[0, 0]


def _row(model: Model, seen: Inside, name: str, where: _Placing) -> list[Image.Image]:
    cells = []
    if seen.gates:
        found = seen.gates[-1][0]
        names = model.network.task_names if len(found) == len(model.network.task_names) else model.trained
        gates = found[list(names).index(name)]
        legend = dataclasses.replace(scalar_legend(0, 1, ""), low="global", high="local")
        cells.append(draw_cell(color_scalars(where.spread(gates)[None], 0, 1), f"{name}: gate", legend, CELL))
    if seen.assignments:
        tokens = seen.assignments[0][0][model.trained.index(name)]
        for k, positions in most_focused(tokens, TOKENS_SHOWN):
            title = f"{name}: token {k}, {positions:.0f} positions"
            cells.append(draw_cell(_glow(where, tokens[k]), title, Legend(), CELL))
    return cells


def _glow(where: _Placing, token: Tensor) -> Pixels:
    """Return the image in grey where a token does not look, in colour where it does."""
    share = where.spread(token).numpy()
    share = share / max(float(share.max()), 1e-12)
    warm = matplotlib.colormaps["magma"](share)[..., :3] * 255
    grey = where.image.mean(2, keepdims=True)
    mixed: Pixels = (0.45 * grey + 0.55 * warm).clip(0, 255).astype(np.uint8)
    return mixed
