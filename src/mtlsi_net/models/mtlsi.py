"""MTLSI-Net.

    image -> encoder -> neck -> preliminary decoders -> MT-MQLFB -> readback -> refinement -> CWIB decoders -> heads -> final
                |                       |                   |        ^   |           ^              ^
                |                       v                   +--> STD +---|-----------|--------------+ semantic tokens
                |                      aux                               v           |
                +-----------------------------------------------------> aux ---------+ detail

The order of the stages is the paper's (arXiv 2604.01995); their sizes and inner form, levels and refinement are our choice.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, StageFactory, crop
from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.fusion import MultiScaleQueryFusion
from mtlsi_net.models.heads import PlainHead
from mtlsi_net.models.layers.masking import valid_at
from mtlsi_net.models.neck import CoarseToFineNeck, Neck
from mtlsi_net.models.preliminary import Activation, PreliminaryDecoders
from mtlsi_net.models.readback import TokenReadback
from mtlsi_net.models.refinement import DetailRefinement, Refinement
from mtlsi_net.models.semantic_decoder import SemanticDecoder


class MTLSINet(DenseNetwork):
    """Multi-task dense prediction with linear cross-task interaction.

    Args:
        encoder: has the attributes ``specs``, ``mean`` and ``std``.
        task_channels: task -> K output channels.
        width: C, channels of all decoder features; a multiple of ``head_dim``.
        stride: of the working grid; the encoder's own strides may differ.
        head_dim: channels of an attention head, 32 or more.
        neck: called with specs, width, stride; returns levels, the finest first, of its ``level_strides``.
        preliminary: called with task_channels, width, activations, norm, levels (their number).
        fusion: called with tasks (their number), width, head_dim, norm; as is ``distiller``.
        distiller: see ``fusion``.
        readback: as ``fusion``, and with task_channels; reads tokens and features at the working grid.
        refinement: called with specs, tasks, width, stride, norm; its ``width`` and ``factor`` are those of its result.
        decoder: as ``fusion``, with the width of the refined features, and ``token_width``.
        head: called with task_channels, width (of the refined features), norm; ``model=mtlsi`` sets its ``shortcut``, too.
        norm: ``layer`` (over channels at each position) or ``batch``, see ``DenseNetwork``.
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
        neck: Callable[..., Neck] = CoarseToFineNeck,
        preliminary: StageFactory = PreliminaryDecoders,
        fusion: StageFactory = MultiScaleQueryFusion,
        distiller: StageFactory = SemanticTokenDistiller,
        readback: StageFactory = TokenReadback,
        refinement: Callable[..., Refinement] = DetailRefinement,
        decoder: StageFactory = SemanticDecoder,
        head: StageFactory = PlainHead,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,
        mask_padding: bool = True,
    ) -> None:
        levels = neck(specs=encoder.specs, width=width, stride=stride)
        coarsest = levels.level_strides[-1]
        super().__init__(
            encoder, task_channels, width, coarsest, norm=norm, mask_padding=mask_padding, working_stride=stride
        )
        layer, tasks = self.norm_layer, len(task_channels)
        sizes = {"tasks": tasks, "head_dim": head_dim, "norm": layer}
        self.neck, self.aux_strides = levels, levels.level_strides
        self.preliminary = preliminary(
            task_channels=task_channels,
            width=width,
            activations=activations,
            norm=layer,
            levels=len(levels.level_strides),
        )
        self.fusion = fusion(width=width, **sizes)
        self.distiller = distiller(width=width, **sizes)
        self.readback = readback(width=width, task_channels=task_channels, **sizes)
        self.refinement = refinement(specs=encoder.specs, tasks=tasks, width=width, stride=stride, norm=layer)
        fine = self.refinement.width
        self.decoder_stride = stride // self.refinement.factor
        self.decoder = decoder(width=fine, token_width=width, **sizes)
        self.head = head(task_channels=task_channels, width=fine, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), aux (B, K, ceil(H / s), ceil(W / s)), of stride s.

        ``aux`` are the predictions of the supervised levels, then those of the readback.
        """
        canvas, pixels = self.canvas(image, valid)
        maps = self.encoder(canvas)
        levels = self.neck(maps, pixels)
        features, aux = self.preliminary(levels, pixels)
        coarse = valid_at(pixels, features)
        features = self.fusion(features, coarse)
        tokens = self.distiller(features, coarse)
        features, read = self.readback(features, tokens)
        features = self.refinement(features, canvas, maps, pixels)
        fine = valid_at(pixels, features)
        features = self.decoder(features, tokens, fine)
        final = self.head(features, fine, (canvas.shape[-2], canvas.shape[-1]))

        size, strides = image.shape[-2:], self.neck.level_strides[: len(aux)]  # the finest levels are supervised
        early = [crop(outputs, size, stride) for outputs, stride in zip(aux, strides, strict=True)]
        return Prediction(crop(final, size), [*early, *(crop(outputs, size, self.stride) for outputs in read)])
