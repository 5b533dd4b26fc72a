"""Multi-Task Multi-scale Query Linear Fusion Block (MT-MQLFB): all tasks read one global context matrix.

Paper: linear attention with one context shared by the tasks, and queries at several scales. All else is our choice.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.linear_attention import (
    FEATURE_MAPS,
    ConcatenatedKeysValues,
    KeysValues,
    MixedContext,
    PerTaskContext,
    SharedContext,
    contexts_of_sources,
    identity,
    normalised_query,
    position_weights,
)
from mtlsi_net.models.layers.masking import zero_invalid
from mtlsi_net.models.layers.pooled_attention import sequence
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    ConvFeedForward,
    NormLayer,
    TaskConv,
    TaskLinear,
    Unchanged,
    count_heads,
)

# -- additions after the attention ----------------------------------------------------------------------------------


class LocalValue(nn.Module):
    """Adds a depthwise 3x3 convolution of the values: local detail that a mean over the image loses.

    Args:
        weight_sets: number of separate weight sets for values.
    """

    def __init__(self, weight_sets: int, width: int) -> None:
        super().__init__()
        self.conv = TaskConv(weight_sets, width, width, 3, depthwise=True, gain=RESIDUAL_GAIN)

    def forward(self, y_BTChw: Tensor, v_BGChw: Tensor, valid: Tensor | None) -> Tensor:
        """Return y + conv(v), (B, T, C, h, w)."""
        return y_BTChw + self.conv(v_BGChw, valid)


class TaskExchange(nn.Module):
    """Adds U_t sum_{s != t} D_s x_s, rank C/4: lets tasks inform each other at the same pixel.

    The pooled context cannot: through it, a task's feature at a pixel reaches that pixel no more than any other. U
    starts at zero.
    """

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.down = TaskLinear(tasks, width, width // 4, bias=False)
        self.up = TaskLinear(tasks, width // 4, width, bias=False, gain=0.0)

    def forward(self, y_BTChw: Tensor, x_BTChw: Tensor) -> Tensor:
        """Return y plus the projected x of the other tasks at each position, (B, T, C, h, w)."""
        low = self.down(x_BTChw)
        return y_BTChw + self.up(low.sum(1, keepdim=True) - low)


# -- the block ------------------------------------------------------------------------------------------------------


class SharedContextAttention(nn.Module):
    """Linear attention of every task's multi-scale queries to one context of all tasks.

    Equal to kernel attention over all T * N positions, at a cost linear in N, T and S. For the backward pass it saves
    (2 S + 6) * B * T * N * C values, the whole block (2 S + 18), and nothing that grows faster (phi relu, context sum).

    Args:
        scales: odd kernel sizes of the queries' depthwise convolutions.
        phi: relu, elu1 or focused.
        context: see ``MultiScaleQueryFusion``, as the two below.
        share: which weights all tasks share.
        local_value: none or dw3.

    Raises:
        InputError: an option that does not exist, or heads that do not fit.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        scales: Sequence[int],
        *,
        phi: str = "relu",
        context: str = "sum",
        share: str = "none",
        local_value: str = "none",
    ) -> None:
        super().__init__()
        self.heads = count_heads(width, head_dim)
        self.phi = choose("phi", phi, FEATURE_MAPS)
        sets = choose("share", share, {"none": tasks, "kv": tasks, "all": 1})
        kv_sets = tasks if share == "none" else 1
        sources: tuple[type[KeysValues], int, int, nn.Module] = choose(
            "context",
            context,
            {
                "sum": (KeysValues, kv_sets, width, SharedContext()),
                "own": (KeysValues, kv_sets, width, PerTaskContext()),
                "mixed": (KeysValues, kv_sets, width, MixedContext(tasks)),
                "concat": (ConcatenatedKeysValues, 1, tasks * width, PerTaskContext()),
            },
        )
        build, kv_sets, in_channels, self.context = sources
        self.keys_values = build(kv_sets, in_channels, width)
        self.query = TaskLinear(sets, width, width)
        self.scales = nn.ModuleList(TaskConv(sets, width, width, k, depthwise=True) for k in scales)
        self.project = TaskLinear(sets, width * len(scales), width, bias=False, gain=RESIDUAL_GAIN)
        add_values: dict[str, Callable[[int, int], nn.Module]] = {"none": lambda *_: Unchanged(), "dw3": LocalValue}
        self.local_value = choose("local_value", local_value, add_values)(kv_sets, width)

    def queries(self, x_BTChw: Tensor, valid: Tensor | None) -> list[Tensor]:
        """Return phi of the queries, S times (B, T, C, h, w)."""
        base = zero_invalid(self.query(x_BTChw), valid)  # once for all scales
        return [self.phi(scale(base, None), self.heads) for scale in self.scales]

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map normalised features (B, T, C, h, w) to what is added to them."""
        k, v = self.keys_values(x_BTChw)
        y = self.attend(self.queries(x_BTChw, valid), self.phi(k, self.heads), v, valid)
        return self.local_value(y, v, valid)

    def attend(self, queries: Sequence[Tensor], k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Return ``read`` in a precision in which its sums do not overflow."""
        if k.dtype != torch.float16:
            return self.read(queries, k, v, valid)
        with torch.autocast(k.device.type, enabled=False):  # float16 would overflow
            return self.read([q.float() for q in queries], k.float(), v.float(), valid).to(k.dtype)

    def read(self, queries: Sequence[Tensor], k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Return the projected attention output, (B, T, C, h, w), from phi(q), phi(k) and v."""
        context, total = self.context(*contexts_of_sources(k, v, position_weights(k, valid), self.heads))
        q = torch.cat([normalised_query(query, total) for query in queries], 2)
        return torch.unflatten(self.fold(context) @ q.flatten(3), 3, q.shape[3:])

    def fold(self, context: Tensor) -> Tensor:
        """Return projection times context, (B, T, C, S * C): exact, and no output of a single scale is ever stored."""
        weight = torch.unflatten(self.project.weight.to(context.dtype), 2, (len(self.scales), self.heads, -1))
        return torch.einsum("bthde,tcshe->btcshd", context, weight).flatten(3)


class SoftmaxContextAttention(SharedContextAttention):
    """The quadratic reference: softmax attention of every query to all T * N positions, without a feature map."""

    def __init__(self, tasks: int, width: int, head_dim: int, scales: Sequence[int], **options: str) -> None:
        super().__init__(tasks, width, head_dim, scales, **options)
        if not isinstance(self.context, SharedContext):
            raise InputError("softmax attention reads all tasks' positions; set context=sum")
        if (phi := options.get("phi", "relu")) != "relu":
            raise InputError(f"phi={phi} has no effect on softmax attention; leave it out")
        self.phi = identity

    def read(self, queries: Sequence[Tensor], k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Return the projected attention output, (B, T, C, h, w)."""
        keys, values = (sequence(x, self.heads) for x in (k, v))
        real = None
        if valid is not None:
            seen = valid | ~valid.flatten(1).any(1).view(-1, 1, 1, 1)  # keeps an image of only padding finite
            real = seen.flatten(2).repeat(1, 1, k.shape[1])[:, :, None]  # (B, 1, 1, T * N)
        read = []
        for query in queries:
            y = F.scaled_dot_product_attention(sequence(query, self.heads), keys, values, attn_mask=real)
            read.append(torch.unflatten(y, 2, (k.shape[1], -1)).permute(0, 2, 1, 4, 3).reshape(query.shape))
        return self.project(torch.cat(read, 2))


ATTENTIONS = {"linear": SharedContextAttention, "softmax": SoftmaxContextAttention}


class FusionBlock(Recomputed):
    """x + attention(norm(x)), then the convolutional feed-forward.

    Args:
        attention: maps normalised features and validity to the residual.
        norm: of the features before it.
        exchange: adds messages between tasks at the same position.
        feed_forward: residual.
    """

    def __init__(
        self, attention: SharedContextAttention, norm: nn.Module, exchange: nn.Module, feed_forward: nn.Module
    ) -> None:
        super().__init__()
        self.norm, self.attention, self.exchange, self.feed_forward = norm, attention, exchange, feed_forward

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        y = self.norm(x_BTChw)
        x = x_BTChw + self.exchange(self.attention(y, valid), y)
        return self.feed_forward(x, valid)


class MultiScaleQueryFusion(nn.Module):
    """``depth`` MT-MQLFBs.

    Args:
        tasks: T.
        width: C.
        head_dim: d, a divisor of C, 32 or more.
        scales: odd kernel sizes of the queries [paper: several; which is our choice].
        depth: number of blocks [our choice, as all below].
        phi: feature map of queries and keys: ``relu``, ``elu1`` or ``focused``; none but the default with softmax.
        context: what a task reads: ``sum``, the mean of all tasks' contexts [paper: one shared matrix]; ``own``, only
            its own; ``concat``, one context of keys and values made from all tasks' features together; ``mixed``, a
            learned mean of the tasks' contexts.
        share: weights that all tasks share: ``none``; ``kv``, those of keys and values (with ``concat`` they are one set
            anyway); ``all`` but the norms, whose scale and shift per task remain (the shift is the task's embedding),
            and the exchange, which is between tasks.
        local_value: ``dw3`` adds a depthwise 3x3 convolution of the values; ``none`` does not.
        exchange: let tasks inform each other at the same position.
        attention: ``linear``, or ``softmax`` over all T * N positions, the quadratic reference.
        norm: class of the norms.

    Raises:
        InputError: an option that does not exist, or heads that do not fit.

    Example:
        >>> import torch
        >>> fusion = MultiScaleQueryFusion(tasks=3, width=64, head_dim=32, scales=(1, 3))
        >>> features = torch.rand(2, 3, 64, 8, 12)  # (B, T, C, h, w)
        >>> tuple(fusion(features, valid=None).shape)
        (2, 3, 64, 8, 12)
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        scales: Sequence[int] = (1, 3, 5),
        depth: int = 1,
        *,
        phi: str = "relu",
        context: str = "sum",
        share: str = "none",
        local_value: str = "none",
        exchange: bool = False,
        attention: str = "linear",
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        if not scales or depth < 1:
            raise InputError(f"scales={list(scales)}, depth={depth}: give at least one scale and one block")
        if tasks == 1 and (exchange or context == "mixed"):
            raise InputError(
                f"exchange={exchange}, context={context}: one task has no other to exchange with; set exchange=false and "
                "context=sum, or train more tasks"
            )
        attend = choose("attention", attention, ATTENTIONS)
        options = {"phi": phi, "context": context, "share": share, "local_value": local_value}
        sets = 1 if share == "all" else tasks
        self.blocks = nn.ModuleList(
            FusionBlock(
                attend(tasks, width, head_dim, scales, **options),
                norm(width, tasks),
                TaskExchange(tasks, width) if exchange else Unchanged(),
                ConvFeedForward(tasks, width, norm=norm, weight_sets=sets),
            )
            for _ in range(depth)
        )

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape; ``valid`` is (B, 1, h, w) or None."""
        x = x_BTChw
        for block in self.blocks:
            x = block(x, valid)
        return x
