"""Predictions against labels, as pictures."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.nyud import NYUDLayoutReader
from mtlsi_net.prediction.drawing import draw_cell, tile
from mtlsi_net.prediction.images import Pixels
from mtlsi_net.prediction.result import Result, TaskResult
from mtlsi_net.specs import IGNORE
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import INVALID_COLOR, Legend, color_scalars, scalar_legend
from mtlsi_net.utils.errors import UserError

CELL = 360
RIGHT, WRONG = (225, 230, 235), (200, 40, 40)
ERRORS_IN_VIEW = 0.95
"""Share of the pixels whose error the colour scale reaches."""


class LabelFolder:
    """Labels of one's own in NYUDv2's layout: ``<folder of the task>/<image's stem>``.

    Args:
        root: with the tasks' folders.
        tasks: whose labels are wanted.

    Raises:
        UserError: no such folder, or none of the tasks has a folder in it.
    """

    def __init__(self, root: Path, tasks: Mapping[str, Task]) -> None:
        if not root.is_dir():
            raise UserError(f"labels={root} is no folder; give one with a folder of labels for each task")
        self.reader = NYUDLayoutReader(root, {name: task.target for name, task in tasks.items()}, allow_missing=True)
        folders = {name: self.reader.files(name, "x")[0].parent for name in tasks}
        if not any(folder.is_dir() for folder in folders.values()):
            expected = ", ".join(sorted(folder.name for folder in folders.values()))
            raise UserError(f"labels={root} holds none of the folders {expected}")

    def read(self, stem: str, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the labels there are of an image of ``size``, task -> (C, H, W), 255 invalid.

        Raises:
            UserError: a label that cannot be read, or of another size.
        """
        found = {}
        for name, spec in self.reader.specs.items():
            label = label_values(self.reader.read_target(name, stem, size), spec)
            if (label != IGNORE).any():
                found[name] = label
        return found


def draw_errors(result: Result, labels: Mapping[str, Tensor], path: Path) -> None:
    """Draw label, prediction and error of every task that has a label; nothing without any."""
    cells: list[Image.Image] = []
    for name, label in labels.items():
        one = result[name]
        picture, legend = error_picture(one, label)
        task = one.task.fitted(label)
        cells += [
            draw_cell(task.colorize(label), f"{name}: label", task.legend(label), CELL),
            draw_cell(task.colorize(one.value), f"{name}: prediction", task.legend(one.value), CELL),
            draw_cell(picture, f"{name}: error", legend, CELL),
        ]
    if cells:
        tile(cells, 3).save(path)


def error_picture(result: TaskResult, label: Tensor) -> tuple[Pixels, Legend]:
    """Return where a prediction is wrong against its label (C, H, W), and what the colours mean.

    classes: right or wrong. scalar: absolute error in metres. vector: angle in degrees. binary: absolute difference.
    """
    invalid = (label == IGNORE).any(0, keepdim=True)
    return _ERRORS[result.task.target.kind](result.value, label, invalid)


def _classes(value: Tensor, label: Tensor, invalid: Tensor) -> tuple[Pixels, Legend]:
    wrong = ((value.long() != label.long()) & ~invalid)[0].numpy()
    picture = np.where(wrong[..., None], np.array(WRONG), np.array(RIGHT)).astype(np.uint8)
    picture[invalid[0].numpy()] = INVALID_COLOR
    share = 100 * wrong.sum() / max(1, int((~invalid).sum()))
    return picture, Legend(((f"wrong: {share:.1f} %", WRONG), ("right", RIGHT), ("no label", INVALID_COLOR)))


def _scaled(error: Tensor, invalid: Tensor, unit: str, least: float) -> tuple[Pixels, Legend]:
    """Draw an error (1, H, W); the scale reaches ``ERRORS_IN_VIEW`` of it, in two digits."""
    high = float(np.quantile(error[~invalid].numpy(), ERRORS_IN_VIEW)) if (~invalid).any() else least
    digits = 1 - math.floor(math.log10(max(high, least)))
    high = math.ceil(max(high, least) * 10**digits) / 10**digits
    return color_scalars(torch.where(invalid, float(IGNORE), error), 0, high), scalar_legend(0, high, unit)


def _scalar(value: Tensor, label: Tensor, invalid: Tensor) -> tuple[Pixels, Legend]:
    return _scaled((value - label).abs(), invalid, "m", 0.01)


def _vector(value: Tensor, label: Tensor, invalid: Tensor) -> tuple[Pixels, Legend]:
    cosine = torch.nn.functional.cosine_similarity(value, label, dim=0)[None]
    return _scaled(torch.rad2deg(cosine.clamp(-1, 1).acos()), invalid, "degrees", 1)


def _binary(value: Tensor, label: Tensor, invalid: Tensor) -> tuple[Pixels, Legend]:
    return color_scalars(torch.where(invalid, float(IGNORE), (value - label).abs()), 0, 1), scalar_legend(0, 1, "")


_ERRORS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Pixels, Legend]]] = {
    "classes": _classes,
    "scalar": _scalar,
    "vector": _vector,
    "binary": _binary,
}
