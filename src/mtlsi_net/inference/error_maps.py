"""Error maps: pictures of predictions against labels."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtlsi_net.core.errors import UserError, choose, shown
from mtlsi_net.core.types import IGNORE
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.folder import SETTINGS, FolderReader, build_encodings
from mtlsi_net.data.images import Pixels
from mtlsi_net.engine.drawing import draw_cell, tile
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.tasks.base import Task, fit_pair
from mtlsi_net.tasks.colors import INVALID_COLOR, Legend, color_scalars, round_up, scalar_legend

log = logging.getLogger(__name__)

CELL = 360
RIGHT, WRONG = (225, 230, 235), (200, 40, 40)
ERRORS_IN_VIEW = 0.95
"""Share of the pixels whose error lies within the colour scale."""


class LabelFolder:
    """User's labels for ``tasks`` in NYUDv2's layout, and what became of them.

    The label of an image is called as the image, ``<folder of the task>/<stem>``, or lies in subfolders of the same names as
    the image's own, ``<folder of the task>/kitchens/<stem>``.

    Args:
        root: contains a folder for at least one task.
        tasks: to read labels of.
        encoding: settings of ``data=folder`` that say how the labels are stored, e.g. ``{depth_scale: 0.001}``.

    Raises:
        UserError: the folder is missing, or contains no task's folder.
    """

    def __init__(self, root: Path, tasks: Mapping[str, Task], encoding: Mapping[str, Any] | None = None) -> None:
        if not root.is_dir():
            raise UserError(f"labels={root} is not a folder; pass one that contains a folder of labels for each task")
        self.root, specs, prefix = root, {name: task.target for name, task in tasks.items()}, "label_encoding."
        settings = dict(encoding or {})
        for name in settings:
            choose("label_encoding", name, dict.fromkeys((*SETTINGS, "files")))
        files = settings.pop("files", None) or {}
        encodings = build_encodings(specs, settings, files, prefix)
        self.reader = FolderReader(root, specs, allow_missing=True, files=files, encodings=encodings)
        self.folders = sorted({self.reader.files(name, "x")[0].parent for name in tasks})
        if not any(folder.is_dir() for folder in self.folders):
            expected = ", ".join(folder.name for folder in self.folders)
            raise UserError(f"labels={root} contains none of the folders {expected}")
        self.drawn = 0
        self.skipped: dict[str, str] = {}

    def find(self, image: Path) -> str | None:
        """Return the id of an image's labels, its stem after as many of its folders as they have; None without any label."""
        parts = image.resolve().with_suffix("").parts[1:]
        ids = ("/".join(parts[-count:]) for count in range(len(parts), 0, -1))
        return next(
            (i for i in ids if any(self.reader.files(name, i)[0].is_file() for name in self.reader.specs)), None
        )

    def read(self, stem: str, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the available labels of an image of ``size``, task -> (C, H, W), 255 invalid; a UserError for another size."""
        specs = self.reader.specs
        labels = {name: label_values(self.reader.read_target(name, stem, size), spec) for name, spec in specs.items()}
        return {name: label for name, label in labels.items() if (label != self.reader.specs[name].ignore).any()}

    def compare(self, result: Result, image: Path, path: Path) -> None:
        """Draw the errors of one image to ``path``, called as its results; note why if there is no picture."""
        try:
            stem = self.find(image)
            if stem is None:
                expected = ", ".join(f"{folder.name}/{image.stem}.*" for folder in self.folders)
                raise UserError(f"no label (looked for {expected})")
            if path.stem != image.stem and stem == image.stem:
                raise UserError(f"several images are called {stem}, so its label is ambiguous; give them unique names")
            labels = self.read(stem, (result.image.shape[0], result.image.shape[1]))
            if not labels:
                raise UserError("no valid pixel in its labels")
            draw_errors(result, labels, path)
            self.drawn += 1
        except UserError as error:
            self.skipped[str(image)] = str(error)

    def report(self) -> None:
        """Warn of images without an error map: how many, and why the first ones."""
        if self.skipped:
            reasons = shown((f"{image}: {reason}" for image, reason in self.skipped.items()), "; ")
            total = self.drawn + len(self.skipped)
            log.warning(
                "no error map drawn for %d of %d images (labels=%s): %s", len(self.skipped), total, self.root, reasons
            )


def draw_errors(result: Result, labels: Mapping[str, Tensor], path: Path) -> None:
    """Draw label, prediction and error of every task that has a label, at least one."""
    cells: list[Image.Image] = []
    for name, label in labels.items():
        one = result[name]
        picture, legend = error_picture(one, label)
        task, shown = fit_pair(one.task, label, one.value)
        cells += [
            draw_cell(task.colorize(label), f"{name}: label", task.legend(label), CELL),
            draw_cell(shown.colorize(one.value), f"{name}: prediction", shown.legend(one.value), CELL),
            draw_cell(picture, f"{name}: error", legend, CELL),
        ]
    tile(cells, 3).save(path)


def error_picture(result: TaskResult, label: Tensor) -> tuple[Pixels, Legend]:
    """Return a picture of a prediction's errors against its label (C, H, W), and its legend.

    classes: right or wrong. scalar: absolute error in the task's unit. vector: angle in degrees. binary: absolute difference.
    """
    value, kind = result.value, result.task.target.kind
    invalid = (label == result.task.target.ignore).any(0, keepdim=True)
    if kind == "classes":
        return _class_errors((value.long() != label.long()) & ~invalid, invalid)
    if kind == "vector":
        cosine = torch.nn.functional.cosine_similarity(value, label, dim=0)[None]
        error, unit, least = torch.rad2deg(cosine.clamp(-1, 1).acos()), "degrees", 1.0
    else:
        error, unit = (value - label).abs(), getattr(result.task, "unit", "m")
        least = 0.01 if unit == "m" else 0.0  # what is little in other units is not known
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
    """Return the ``ERRORS_IN_VIEW`` quantile of the errors, at least ``least``, rounded up to two digits; 1 instead of 0."""
    high = max(least, float(np.quantile(errors.numpy(), ERRORS_IN_VIEW))) if len(errors) else least
    return round_up(high or 1.0)
