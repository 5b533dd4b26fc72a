"""Linear attention over positions, for several tasks at once: feature maps, keys and values, contexts, and their readers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.models.layers.masking import align
from mtlsi_net.models.layers.subset import CrossTaskLayer
from mtlsi_net.models.layers.task_layers import TaskLinear

EPS = 1.0e-6

# -- feature maps phi: queries and keys (B, T, C, h, w) to non-negative values ------------------------------------------
# The paper does not say which one it uses; relu as default is our choice.

FOCUS = 3
"""Power of the focused map, as in its paper."""
TINY = 1e-20

FeatureMap = Callable[[Tensor, int], Tensor]


def relu(x: Tensor, heads: int) -> Tensor:  # noqa: ARG001 - one signature for all maps
    """Return max(x, 0)."""
    return F.relu(x)


def elu1(x: Tensor, heads: int) -> Tensor:  # noqa: ARG001
    """Return elu(x) + 1, always positive (Katharopoulos et al., 2020); written so that it stays so in half precision."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def focused(x: Tensor, heads: int) -> Tensor:
    """Return relu(x)**3 per head, scaled back to the length of relu(x): sharper directions (Han et al., FLatten, 2023).

    Computed in float32 at least: third powers leave the range of half precision.
    """
    positive = torch.unflatten(F.relu(x), 2, (heads, -1)).to(torch.promote_types(x.dtype, torch.float32))
    sharp = positive**FOCUS
    length, sharp_length = (torch.linalg.vector_norm(y, dim=3, keepdim=True) for y in (positive, sharp))
    return (sharp * (length / sharp_length.clamp(min=TINY))).reshape(x.shape).to(x.dtype)


def identity(x: Tensor, heads: int) -> Tensor:  # noqa: ARG001
    """Return x: softmax attention takes queries and keys as they are."""
    return x


FEATURE_MAPS: dict[str, FeatureMap] = {"relu": relu, "elu1": elu1, "focused": focused}

# -- sums over positions ----------------------------------------------------------------------------------------------


def position_weights(keys_BGChw: Tensor, valid: Tensor | None) -> Tensor | float:
    """Return each position's share of the mean over valid positions: 1/N, or 0 where padded."""
    height, width = keys_BGChw.shape[-2:]
    if valid is None:
        return 1 / (height * width)
    real = align(valid, keys_BGChw)
    count = real.sum(dim=(-2, -1), keepdim=True).clamp(
        min=1
    )  # an image of only padding has zero context instead of NaN
    dtype = torch.promote_types(keys_BGChw.dtype, torch.float32)
    return (real.to(dtype) / count).to(keys_BGChw.dtype)


def split_heads(x_BTChw: Tensor, heads: int) -> Tensor:
    """Map (B, T, C, h, w) to (B, T, heads, d, N)."""
    return torch.unflatten(x_BTChw.flatten(3), 2, (heads, -1))


def contexts_of_sources(k: Tensor, v: Tensor, weight: Tensor | float, heads: int) -> tuple[Tensor, Tensor]:
    """Return each source's G = mean of phi(k) v^T, (B, G, heads, d, d), and z = mean of phi(k), (B, G, heads, d).

    The mean runs over valid positions; its factor goes into the keys before the product, so that no sum of N products
    has to fit into the number format.

    Args:
        k: (B, G, C, h, w), phi already applied, never negative; G sources, usually the tasks.
        v: (B, G, C, h, w).
        weight: ``position_weights``.
        heads: C / d.
    """
    keys, values = split_heads(k * weight, heads), split_heads(v, heads)
    total = keys.sum(dim=-1, dtype=torch.promote_types(k.dtype, torch.float32))
    return keys @ values.mT, total


def normalised_query(q: Tensor, total: Tensor) -> Tensor:
    """Return q / (q . z + eps) per head, in the shape of ``q`` (B, T, C, h, w); the division is in float32.

    Args:
        q: phi already applied.
        total: z, (B, T or 1, heads, d).
    """
    heads = split_heads(q, total.shape[2])
    norm = total[:, :, :, None].to(q.dtype) @ heads
    inverse = (norm.to(total.dtype) + EPS).reciprocal()
    return (heads * inverse.to(q.dtype)).reshape(q.shape)


# -- sources of keys and values, and the context that each task reads -------------------------------------------------


class KeysValues(nn.Module):
    """Keys and values of every task from its own features."""

    def __init__(self, weight_sets: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.key = TaskLinear(weight_sets, in_channels, width)
        self.value = TaskLinear(weight_sets, in_channels, width, bias=False)

    def forward(self, x_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, G, C, h, w) of G = T sources."""
        return self.key(x_BTChw), self.value(x_BTChw)


class ConcatenatedKeysValues(KeysValues, CrossTaskLayer):
    """Keys and values from all tasks' features at a position together: one source, whatever the number of tasks."""

    def forward(self, x_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, 1, C, h, w)."""
        return super().forward(x_BTChw.flatten(1, 2)[:, None])


class SharedContext(nn.Module):
    """One context for all tasks, the mean over sources [paper]."""

    def forward(self, context: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, G, heads, d, d) and (B, G, heads, d) to one set each, (B, 1, ...)."""
        return context.mean(1, keepdim=True), total.mean(1, keepdim=True)


class PerTaskContext(nn.Module):
    """Every task reads its own context (with one source, all read that one)."""

    def forward(self, context: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return the arguments."""
        return context, total


class MixedContext(CrossTaskLayer):
    """Every task reads its own mean of the tasks' contexts; the learned weights are a task affinity matrix."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(tasks, tasks))

    def affinity(self) -> Tensor:
        """Return (T, T): row t holds the weights with which task t reads the others; rows sum to 1."""
        return self.logits.softmax(1)

    def forward(self, context: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, heads, d, d) and (B, T, heads, d) to the same shapes."""
        weights = self.affinity()
        mixed = torch.einsum("ts,bshde->bthde", weights.to(context.dtype), context)
        # Not a matrix product: autocast would lower its precision.
        return mixed, (weights.to(total.dtype)[:, :, None, None] * total[:, None]).sum(2)
