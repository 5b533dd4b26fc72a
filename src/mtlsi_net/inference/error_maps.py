"""Error maps: pictures of predictions against labels."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import IGNORE
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.images import Pixels
from mtlsi_net.data.nyud import NYUDLayoutReader
from mtlsi_net.inference.drawing import draw_cell, tile
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import INVALID_COLOR, Legend, color_scalars, scalar_legend

CELL = 360
RIGHT, WRONG = (225, 230, 235), (200, 40, 40)
ERRORS_IN_VIEW = 0.95
"""Share of the pixels whose error lies within the colour scale."""


class LabelFolder:
    """User's labels for ``tasks``, in NYUDv2's layout: ``<folder of the task>/<image's stem>``.

    Raises:
        UserError: the folder is missing, or contains no task's folder.
    """

    def __init__(self, root: Path, tasks: Mapping[str, Task]) -> None:
        if not root.is_dir():
            raise UserError(f"labels={root} is not a folder; pass one that contains a folder of labels for each task")
        self.reader = NYUDLayoutReader(root, {name: task.target for name, task in tasks.items()}, allow_missing=True)
        folders = {self.reader.files(name, "x")[0].parent for name in tasks}
        if not any(folder.is_dir() for folder in folders):
            expected = ", ".join(sorted(folder.name for folder in folders))
            raise UserError(f"labels={root} contains none of the folders {expected}")

    def read(self, stem: str, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the available labels of an image of ``size``, task -> (C, H, W), 255 invalid; a UserError for another size."""
        specs = self.reader.specs
        labels = {name: label_values(self.reader.read_target(name, stem, size), spec) for name, spec in specs.items()}
        return {name: label for name, label in labels.items() if (label != IGNORE).any()}


def draw_errors(result: Result, labels: Mapping[str, Tensor], path: Path) -> None:
    """Draw label, prediction and error of every task that has a label; no file without labels."""
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
    """Return a picture of a prediction's errors against its label (C, H, W), and its legend.

    classes: right or wrong. scalar: absolute error in metres. vector: angle in degrees. binary: absolute difference.
    """
    value, kind = result.value, result.task.target.kind
    invalid = (label == IGNORE).any(0, keepdim=True)
    if kind == "classes":
        return _class_errors((value.long() != label.long()) & ~invalid, invalid)
    if kind == "vector":
        cosine = torch.nn.functional.cosine_similarity(value, label, dim=0)[None]
        error, unit, least = torch.rad2deg(cosine.clamp(-1, 1).acos()), "degrees", 1.0
    else:
        error, unit, least = (value - label).abs(), "m", 0.01
    high = _scale_end(error[~invalid], least)
    if kind == "binary":
        high, unit = 1.0, ""
    return color_scalars(torch.where(invalid, float(IGNORE), error), 0, high), scalar_legend(0, high, unit)


def _class_errors(wrong: Tensor, invalid: Tensor) -> tuple[Pixels, Legend]:
    """Draw (1, H, W) masks of wrong and of invalid pixels."""
    picture = np.where(wrong[0, ..., None].numpy(), WRONG, RIGHT).astype(np.uint8)
    picture[invalid[0].numpy()] = INVALID_COLOR
    share = 100 * wrong.sum().item() / max(1, int((~invalid).sum()))
    return picture, Legend(((f"wrong: {share:.1f} %", WRONG), ("right", RIGHT), ("no label", INVALID_COLOR)))


def _scale_end(errors: Tensor, least: float) -> float:
    """Return the ``ERRORS_IN_VIEW`` quantile of the errors, at least ``least``, rounded up to two digits."""
    high = max(least, float(np.quantile(errors.numpy(), ERRORS_IN_VIEW))) if len(errors) else least
    digits = 1 - math.floor(math.log10(high))
    return math.ceil(high * 10**digits) / 10**digits
