"""What happens at a loss or a gradient that is not finite."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlsi_net.utils.errors import UserError, choose

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 10
"""Steps that may be skipped one after the other; then the weights, not the images, are at fault."""


class NonFiniteGuard:
    """Stops the run, or skips the step and counts it.

    A skipped step changes neither weights nor optimiser nor batch norms' statistics; schedule and data go on.

    Args:
        mode: ``stop`` or ``skip``.

    Raises:
        UserError: another mode.
    """

    def __init__(self, mode: str = "stop") -> None:
        self.skips = choose("non_finite", mode, {"stop": False, "skip": True})
        self.skipped = 0
        self.in_a_row = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def begin(self, network: nn.Module) -> None:
        """Remember what a forward pass changes beside the result."""
        if self.skips:
            self._buffers = [(own, own.clone()) for own in network.buffers()]

    def check_losses(self, step: int, losses: Mapping[str, Tensor], ids: Sequence[str]) -> None:
        """Name the losses that are not finite, and their images.

        Raises:
            UserError: in mode ``stop``.
        """
        bad = [f"{name} = {loss.item():g}" for name, loss in losses.items() if not torch.isfinite(loss)]
        told = f"loss is not finite at step {step}: {', '.join(bad) or 'total'}; images {', '.join(ids)}. "
        if not self.skips:
            raise UserError(
                f"{told}Training stopped, the last checkpoint is kept; lower optim.lr, look at these images' labels, or "
                "skip such steps with non_finite=skip"
            )
        log.warning("%sThe step is skipped", told)

    def check_gradient(self, step: int, norm: Tensor, network: nn.Module, parameters: Iterable[nn.Parameter]) -> bool:
        """Return whether the step may be taken; otherwise gradients are gone and buffers as before.

        Raises:
            UserError: the norm is not finite, in mode ``stop`` or too often in a row.
        """
        if bool(torch.isfinite(norm)):
            self.in_a_row = 0
            return True
        named = network.named_parameters()
        bad = next((name for name, p in named if p.grad is not None and not p.grad.isfinite().all()), "the norm")
        self.in_a_row += 1
        if not self.skips or self.in_a_row > MOST_IN_A_ROW:
            often = f" {self.in_a_row} times in a row" if self.in_a_row > 1 else ""
            raise UserError(
                f"gradient is not finite at step {step}{often} (first in {bad}). Training stopped, the last checkpoint is "
                "kept; lower optim.lr or set trainer.precision=32-true"
            )
        self.skipped += 1
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for own, before in self._buffers:
                own.copy_(before)
        return False
