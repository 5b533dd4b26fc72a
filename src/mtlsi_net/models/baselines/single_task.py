"""Single-task baseline, one network per task: the reference of the multi-task gain.

    image -> encoder of task 1 -> neck -> decoder -> head -> final of task 1
          -> encoder of task 2 -> neck -> decoder -> head -> final of task 2
          -> ...

The networks share nothing but the image. Their layers are those of the plain baseline.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, StageFactory, crop
from mtlsi_net.models.encoder import Encoder, TimmEncoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.layers.masking import valid_at
from mtlsi_net.models.layers.subset import PerTaskStage, TaskLayer, keep_parameters
from mtlsi_net.models.neck import PyramidNeck
from mtlsi_net.models.preliminary import Activation, TaskConvs


class EncoderPerTask(Encoder, TaskLayer):
    """Copies of an encoder that start from the same weights and are trained independently.

    Args:
        encoder: the encoder to copy.
        copies: T.
    """

    per_task = ("copies",)

    def __init__(self, encoder: Encoder, copies: int) -> None:
        super().__init__()
        self.specs, self.mean, self.std = encoder.specs, encoder.mean, encoder.std
        self.tasks = copies
        self.copies = nn.ModuleList([encoder, *(copy.deepcopy(encoder) for _ in range(copies - 1))])

    @property
    def num_layers(self) -> int:
        """Blocks of one encoder, as for layer-wise decay."""
        return cast("TimmEncoder", self.copies[0]).num_layers

    def parameter_depths(self) -> dict[str, int]:
        """Return parameter name -> depth, as one encoder does."""
        depths = cast("TimmEncoder", self.copies[0]).parameter_depths()
        return {f"copies.{i}.{name}": depth for i in range(len(self.copies)) for name, depth in depths.items()}

    def embeddings(self) -> set[str]:
        """Return the names of every copy's embeddings."""
        names = cast("TimmEncoder", self.copies[0]).embeddings()
        return {f"copies.{i}.{name}" for i in range(len(self.copies)) for name in names}

    def checkpoint_activations(self) -> None:
        """Enable activation checkpointing in every copy."""
        for encoder in self.copies:
            cast("TimmEncoder", encoder).checkpoint_activations()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return every copy's maps in turn, from (B, 3, H, W)."""
        return [x for encoder in self.copies for x in encoder(image)]


class SingleTaskNet(DenseNetwork, TaskLayer):
    """Networks that share nothing, each of them ``SharedEncoderNet`` with one task (our choice).

    One run trains them side by side and leaves the scores of all tasks in one table, as every other network does. The
    losses are a sum without common parameters, so that no gradient reaches another task's network. Two things are
    common: the norm of the gradient that is clipped (``trainer.gradient_clip_val=0`` switches that off; Adam nearly
    cancels constant factors of a gradient, so clipping and loss weights matter as far as they vary over steps), and
    the step of the best checkpoint; report ``last``. T large encoders may not fit into memory: with all other tasks
    removed (``'~tasks.depth' ...``) a run trains one network and nothing is common.

    Args:
        stride: of the working grid.
        decoder: called with tasks (always 1), width, norm; maps (B, C, h, w) to (B, 1, C, h, w).
        others: as in ``DenseNetwork``.
    """

    per_task = "necks", "decoders"

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 320,
        stride: int = 8,
        neck: StageFactory = PyramidNeck,
        decoder: StageFactory = TaskConvs,
        head: StageFactory = UpsampleHead,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,  # noqa: ARG002 - every network gets them
        mask_padding: bool = True,
    ) -> None:
        encoders = EncoderPerTask(encoder, len(task_channels))
        super().__init__(encoders, task_channels, width, stride, norm=norm, mask_padding=mask_padding)
        layer = self.norm_layer
        self.tasks = len(task_channels)
        self.necks = nn.ModuleList(neck(specs=encoder.specs, width=width, stride=stride) for _ in task_channels)
        self.decoders = nn.ModuleList(decoder(tasks=1, width=width, norm=layer) for _ in task_channels)
        self.head = head(task_channels=task_channels, width=width, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), no aux."""
        maps, pixels, canvas_size = self.encode(image, valid)
        each = len(maps) // len(self.task_names)
        shared = [neck(maps[i * each : (i + 1) * each], pixels)[0] for i, neck in enumerate(self.necks)]
        positions = valid_at(pixels, shared[0])
        features = [decoder(x, positions) for decoder, x in zip(self.decoders, shared, strict=True)]
        final = self.head(torch.cat(features, 1), positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]))

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drop the networks of other tasks."""
        if isinstance(self.head, PerTaskStage):
            keep_parameters(self, self.indices(names))
            self.task_names = tuple(names)
        else:
            super().keep_tasks(names)
