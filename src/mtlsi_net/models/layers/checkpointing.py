"""Activation checkpointing: modules whose activations are recomputed in the backward pass instead of stored."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Recomputed(nn.Module):
    """A module that can store only its inputs for the backward pass. Recomputation repeats the same random numbers."""

    recompute = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever forward takes and returns
        """Run ``forward`` with its hooks."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *args, use_reentrant=False, **kwargs)
        return super().__call__(*args, **kwargs)


def recompute_parts(module: nn.Module) -> None:
    """Enable recomputation in every outermost ``Recomputed`` inside ``module``."""
    for child in module.children():
        if isinstance(child, Recomputed):
            child.recompute = True
        else:
            recompute_parts(child)


def keep_statistics_once(module: nn.Module) -> None:
    """Prevent BatchNorm layers inside ``module`` from counting a batch twice when it is recomputed."""
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            part.register_forward_pre_hook(_hold)
            part.register_forward_hook(_release, always_call=True)  # recomputation may stop inside the layer


def keeps_statistics_once(module: nn.Module) -> bool:
    """Return whether ``keep_statistics_once`` was called; a BatchNorm layer that replaces another one needs it again."""
    return any(_hold in part._forward_pre_hooks.values() for part in module.modules())


def _repeats(norm: nn.Module) -> bool:
    return (
        norm.training and torch._C._current_graph_task_id() != -1
    )  # in a backward pass, tested as in torch's checkpoint


def _hold(norm: _BatchNorm, _: object) -> None:
    if _repeats(norm):
        norm.__dict__["held_momentum"], norm.momentum = norm.momentum, 0.0  # today's, which callbacks change
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked -= 1


def _release(norm: _BatchNorm, *_: object) -> None:
    if _repeats(norm):
        norm.momentum = norm.__dict__.pop("held_momentum")
