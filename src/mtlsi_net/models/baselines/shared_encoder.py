"""The plain baseline: one encoder and neck for all tasks, then each task alone."""

from collections.abc import Mapping

from torch import Tensor

from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.layers.task_layers import NORMS
from mtlsi_net.models.neck import PyramidNeck
from mtlsi_net.models.network import SharedMapNetwork, StageFactory, crop
from mtlsi_net.models.preliminary import Activation, TaskConvs
from mtlsi_net.specs import Prediction
from mtlsi_net.utils.errors import choose


class SharedEncoderNet(SharedMapNetwork):
    """Tasks share encoder and neck and nothing else: what interaction has to beat (our choice).

    Args:
        encoder: publishes ``specs``, ``mean`` and ``std``.
        task_channels: task -> K output channels.
        width: C, channels of all decoder features.
        stride: of the working grid.
        neck: called with specs, width, stride.
        decoder: called with tasks (their number), width, norm; maps (B, C, h, w) to (B, T, C, h, w).
        head: called with task_channels, width, norm.
        norm: of all decoder features, ``layer`` or ``batch``.
        activations: not used.
        mask_padding: leave padded positions out of convolutions.
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
        activations: Mapping[str, Activation] | None = None,  # noqa: ARG002 - what every network is offered
        mask_padding: bool = True,
    ) -> None:
        super().__init__(encoder, task_channels, width=width, stride=stride, neck=neck, mask_padding=mask_padding)
        layer = choose("norm", norm, NORMS)
        self.decoder = decoder(tasks=len(task_channels), width=width, norm=layer)
        self.head = head(task_channels=task_channels, width=width, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Predict all tasks.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], any size.
            valid: (B, 1, H, W) bool, False on padding; None if there is none.

        Returns:
            Raw outputs: final (B, K, H, W), no aux.
        """
        shared, positions, canvas_size = self.shared_features(image, valid)
        final = self.head(self.decoder(shared, positions), positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]))
