"""The network.

    image -> encoder -> neck -> a decoder per task -+-> + -> heads -> final
                                                    |   ^
                                                    +-> mean over tasks

Everything but the mean is a layer of mtlsi-net.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import SharedMapNetwork, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.layers.task_layers import TaskLinear
from mtlsi_net.models.neck import PyramidNeck
from mtlsi_net.models.preliminary import TaskConvs


class MyDecoderNet(SharedMapNetwork):
    """Every task hears the mean of all tasks at its position.

    Args:
        encoder: the backbone.
        task_channels: task -> K output channels.
        width: C, channels of all decoder features.
        stride: of the working grid.
        activations: task -> what makes its raw outputs into values; not used.
        mask_padding: leave padded positions out of convolutions.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int,
        stride: int,
        activations: Mapping[str, Callable[[Tensor], Tensor]] | None = None,  # noqa: ARG002 - what networks are offered
        mask_padding: bool = True,
    ) -> None:
        super().__init__(
            encoder, task_channels, width=width, stride=stride, neck=PyramidNeck, mask_padding=mask_padding
        )
        self.decoder = TaskConvs(len(task_channels), width)
        self.hear = TaskLinear(len(task_channels), width, width, gain=0.2)
        self.head = UpsampleHead(task_channels, width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Map (B, 3, H, W) in [0, 1] to task -> (B, K, H, W); ``valid`` (B, 1, H, W) is False on padding."""
        shared, positions, canvas_size = self.shared_features(image, valid)
        features = self.decoder(shared, positions)
        features = features + self.hear(features.mean(1, keepdim=True).expand_as(features))
        final = self.head(features, positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]))
