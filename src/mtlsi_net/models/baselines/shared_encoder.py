"""Plain baseline: one encoder and neck for all tasks, then a separate decoder per task."""

from collections.abc import Mapping

from torch import Tensor

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import SharedMapNetwork, StageFactory, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.neck import PyramidNeck
from mtlsi_net.models.preliminary import Activation, TaskConvs


class SharedEncoderNet(SharedMapNetwork):
    """Tasks share encoder and neck and nothing else: what interaction has to beat (our choice).

    Args:
        stride: of the working grid.
        decoder: called with tasks (their number), width, norm; maps (B, C, h, w) to (B, T, C, h, w).
        others: as in ``DenseNetwork``.
    """

    last_stages = "decoder", "head"

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
        super().__init__(encoder, task_channels, width, stride, neck, norm=norm, mask_padding=mask_padding)
        self.decoder = decoder(tasks=len(task_channels), width=width, norm=self.norm_layer)
        self.head = head(task_channels=task_channels, width=width, norm=self.norm_layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), no aux."""
        shared, positions, canvas_size = self.shared_features(image, valid)
        final = self.head(self.decoder(shared, positions), positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]))
