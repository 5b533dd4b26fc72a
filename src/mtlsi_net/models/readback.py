"""Readback of the semantic tokens: what each position reads from them, and predictions from that alone."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtlsi_net.core.errors import choose
from mtlsi_net.models.heads import OutputLayers
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.task_layers import ChannelNorm, NormLayer, TaskLinear
from mtlsi_net.models.semantic_decoder import TOKEN_ATTENTIONS


class NoReadback(nn.Module):
    """Placeholder: features stay as they are, and the tokens predict nothing."""

    def __init__(
        self,
        tasks: int,  # noqa: ARG002 - a readback's signature, as below
        width: int,  # noqa: ARG002
        head_dim: int,  # noqa: ARG002
        norm: NormLayer = ChannelNorm,  # noqa: ARG002
        task_channels: Mapping[str, int] | None = None,  # noqa: ARG002
        read_tokens: str = "softmax",  # noqa: ARG002
    ) -> None:
        super().__init__()

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:  # noqa: ARG002
        """Return the features and no predictions."""
        return x_BTChw, []


class TokenReadback(Recomputed):
    """Adds to every position what it reads from the tokens, which must predict the labels by itself (our choice).

    With the losses of these predictions, tokens carry what their regions have in common, as the direction of a wall. The
    reading is attention from a position to regions, as in object-contextual representations (Yuan et al., ECCV 2020).

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
        norm: class of the norm before the reading.
        task_channels: task -> K; None: no predictions.
        read_tokens: ``softmax``, or ``linear`` for token sets as large as the image.

    Raises:
        InputError: an unknown ``read_tokens``.

    Example:
        >>> import torch
        >>> readback = TokenReadback(tasks=2, width=64, head_dim=32, task_channels={"semseg": 40, "depth": 1})
        >>> features, tokens = torch.rand(1, 2, 64, 8, 12), torch.rand(1, 1, 48, 64)
        >>> features, predictions = readback(features, tokens)
        >>> tuple(features.shape), tuple(predictions[0]["semseg"].shape)
        ((1, 2, 64, 8, 12), (1, 40, 8, 12))
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        norm: NormLayer = ChannelNorm,
        task_channels: Mapping[str, int] | None = None,
        *,
        read_tokens: str = "softmax",
    ) -> None:
        super().__init__()
        self.norm = norm(width, tasks)
        self.read = choose("read_tokens", read_tokens, TOKEN_ATTENTIONS)(tasks, width, head_dim)
        self.project = TaskLinear(tasks, width, width)
        self.outputs = nn.ModuleList([OutputLayers(task_channels, width)] if task_channels else [])

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Map (B, T, C, h, w) and tokens (B, 1 or T, L, C) to the same shape, and to task -> (B, K, h, w) from the tokens."""
        read = self.read(self.norm.tokens(x_BTChw), tokens_BGLC).movedim(-1, 2)
        return x_BTChw + self.project(read), [output(read) for output in self.outputs]
