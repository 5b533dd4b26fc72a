"""MTLSI-Net.

    image -> encoder -> neck -> preliminary decoders -> MT-MQLFB -> CWIB decoders -> heads -> final
                                        |                   |            ^
                                        v                   +--> STD ----+ semantic tokens
                                       aux

The order of the stages is the paper's (arXiv 2604.01995); their sizes and inner form are our choice.
"""

from collections.abc import Mapping

from torch import Tensor

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import SharedMapNetwork, StageFactory, crop
from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.fusion import MultiScaleQueryFusion
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.neck import PyramidNeck
from mtlsi_net.models.preliminary import Activation, PreliminaryDecoders
from mtlsi_net.models.semantic_decoder import SemanticDecoder


class MTLSINet(SharedMapNetwork):
    """Multi-task dense prediction with linear cross-task interaction.

    Args:
        encoder: has the attributes ``specs``, ``mean`` and ``std``.
        task_channels: task -> K output channels.
        width: C, channels of all decoder features; a multiple of ``head_dim``.
        stride: of the working grid; the encoder's own strides may differ.
        head_dim: channels of an attention head, 32 or more.
        neck: called with specs, width, stride.
        preliminary: called with task_channels, width, activations, norm.
        fusion: called with tasks (their number), width, head_dim, norm; as are ``distiller`` and ``decoder``.
        distiller: see ``fusion``.
        decoder: see ``fusion``.
        head: called with task_channels, width, norm.
        norm: of all decoder features, ``layer`` (over channels at each position) or ``batch``.
        activations: task -> function from raw outputs to values, for feedback into features.
        mask_padding: leave padded positions out of context, tokens, windows and convolutions.

    Example:
        >>> import torch
        >>> from mtlsi_net import MTLSINet, TimmEncoder
        >>> encoder = TimmEncoder("test_vit", pretrained=False)
        >>> network = MTLSINet(encoder, {"semseg": 40, "depth": 1}, width=64, head_dim=32)
        >>> prediction = network(torch.rand(1, 3, 64, 96))
        >>> {name: tuple(map.shape) for name, map in prediction.final.items()}
        {'semseg': (1, 40, 64, 96), 'depth': (1, 1, 64, 96)}
    """

    last_stages = "decoder", "head"

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 320,
        stride: int = 8,
        head_dim: int = 64,
        neck: StageFactory = PyramidNeck,
        preliminary: StageFactory = PreliminaryDecoders,
        fusion: StageFactory = MultiScaleQueryFusion,
        distiller: StageFactory = SemanticTokenDistiller,
        decoder: StageFactory = SemanticDecoder,
        head: StageFactory = UpsampleHead,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,
        mask_padding: bool = True,
    ) -> None:
        super().__init__(encoder, task_channels, width, stride, neck, norm=norm, mask_padding=mask_padding)
        layer = self.norm_layer
        sizes = {"tasks": len(task_channels), "width": width, "head_dim": head_dim, "norm": layer}
        self.preliminary = preliminary(task_channels=task_channels, width=width, activations=activations, norm=layer)
        self.fusion = fusion(**sizes)
        self.distiller = distiller(**sizes)
        self.decoder = decoder(**sizes)
        self.head = head(task_channels=task_channels, width=width, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), aux (B, K, ceil(H / stride), ceil(W / stride))."""
        shared, positions, canvas_size = self.shared_features(image, valid)
        features, aux = self.preliminary(shared, positions)
        features = self.fusion(features, positions)
        tokens = self.distiller(features, positions)
        features = self.decoder(features, tokens, positions)
        final = self.head(features, positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]), [crop(aux, image.shape[-2:], self.canvas.stride)])
