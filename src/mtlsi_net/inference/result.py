"""Results of a prediction: values and pictures of each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtlsi_net.data.images import Pixels
from mtlsi_net.engine.drawing import CELL, draw_cell, tile
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import Legend


@dataclass(frozen=True)
class TaskResult:
    """One task's prediction for one image, at the image's size."""

    task: Task
    value: Tensor  # (C, H, W) as ``Task.postprocess`` gives it; classes as bytes (int32 above 255), all else float32

    def numpy(self) -> NDArray[Any]:
        """Return (H, W) classes, metres or probabilities, or (H, W, 3) unit vectors."""
        array: NDArray[Any] = self.value.permute(1, 2, 0).numpy()
        return array[..., 0] if array.shape[2] == 1 else array

    def pixels(self) -> Pixels:
        """Return the coloured picture, (H, W, 3); colours of depth and boundaries span the values that it holds."""
        return self.task.fitted(self.value).colorize(self.value)

    def legend(self) -> Legend:
        """Return the legend of the picture's colours."""
        return self.task.fitted(self.value).legend(self.value)

    def drawn(self) -> tuple[Pixels, Legend]:
        """Return the picture and the legend."""
        task = self.task.fitted(self.value)
        return task.colorize(self.value), task.legend(self.value)

    def to_pil(self) -> Image.Image:
        """Return the coloured picture."""
        return Image.fromarray(self.pixels())


class Result(dict[str, TaskResult]):
    """All tasks' predictions for one image, (H, W, 3) RGB, upright: ``result["depth"].numpy()``.

    ``seen`` says at which size the network saw the image: ``processed as in evaluation``, or how it was resized. ``source`` is
    the image's file, if ``predict_each`` read one.
    """

    source: Path | None = None

    def __init__(self, image: Pixels, results: Mapping[str, TaskResult], seen: str) -> None:
        super().__init__(results)
        self.image, self.seen = image, seen

    def to_pil(self, drawn: Mapping[str, tuple[Pixels, Legend]] | None = None) -> Image.Image:
        """Return the image and all predictions with their legends on one sheet; ``drawn``: each task's, if there already."""
        drawn = drawn or {name: one.drawn() for name, one in self.items()}
        cells = [(self.image, "image", Legend())]
        cells += [(pixels, name, legend) for name, (pixels, legend) in drawn.items()]
        return tile([draw_cell(picture, title, legend, CELL) for picture, title, legend in cells])
