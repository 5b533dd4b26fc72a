"""Where keys and values come from, and which task reads which context."""

import torch
from torch import Tensor, nn

from mtlsi_net.models.layers.task_layers import TaskLinear


class KeysValues(nn.Module):
    """Keys and values of every task from its own features.

    Args:
        weight_sets: T, or 1 to let all tasks share the weights.
        in_channels: of the features.
        width: C of keys and values.
    """

    def __init__(self, weight_sets: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.key = TaskLinear(weight_sets, in_channels, width)
        self.value = TaskLinear(weight_sets, in_channels, width, bias=False)

    def forward(self, x_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, G, C, h, w) of G = T sources."""
        return self.key(x_BTChw), self.value(x_BTChw)


class ConcatenatedKeysValues(KeysValues):
    """Keys and values from all tasks' features at a position together: one source, whatever the number of tasks."""

    def forward(self, x_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, 1, C, h, w)."""
        return super().forward(x_BTChw.flatten(1, 2)[:, None])


class SharedContext(nn.Module):
    """One context for all tasks, the mean over sources [paper]."""

    def forward(self, context: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, G, heads, d, d) and (B, G, heads, d) to one set each, (B, 1, ...)."""
        return context.mean(1, keepdim=True), total.mean(1, keepdim=True)


class OwnContext(nn.Module):
    """Every task reads its own context (with one source, all read that one)."""

    def forward(self, context: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return the arguments."""
        return context, total


class MixedContext(nn.Module):
    """Every task reads its own mean of the tasks' contexts; the learned weights are a task affinity matrix.

    Args:
        tasks: T.
    """

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
        # No matrix product: under autocast it would leave float32.
        return mixed, (weights.to(total.dtype)[:, :, None, None] * total[:, None]).sum(2)
