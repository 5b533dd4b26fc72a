"""Guard of training against losses and gradients that are not finite."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import UserError, choose

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 10
"""Steps that may be skipped one after the other; then the weights, not the images, are at fault."""

MOST_SCALED = 50
"""The same in float16, whose scaler also skips steps to find its factor: more than it can halve that factor."""


class NonFiniteGuard:
    """Stops the run (mode ``stop``), or skips the step and counts it (``skip``); waits for the device once, in ``check``.

    A skipped step changes neither weights nor optimiser nor batch norms' statistics; schedule and data advance.
    """

    def __init__(self, mode: str = "stop") -> None:
        self.skips = choose("non_finite", mode, {"stop": False, "skip": True})
        self.skipped = 0
        self.in_a_row = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._seen: list[tuple[Tensor, dict[str, Tensor], Sequence[str]]] = []

    def begin(self, network: nn.Module) -> None:
        """Remember what a forward pass changes beside the result; forget the last step's losses."""
        self._seen.clear()
        if self.skips:
            self._buffers = [(own, own.clone()) for own in network.buffers()]

    def see(self, losses: Mapping[str, Tensor], total: Tensor, ids: Sequence[str]) -> None:
        """Note a micro-batch's losses, their total and its images, for ``check``."""
        own = {name: loss.detach() for name, loss in losses.items()}
        self._seen.append(((total.detach() + sum(own.values())).isfinite(), own, ids))

    def check(
        self, step: int, norm: Tensor, network: nn.Module, parameters: Iterable[nn.Parameter], *, scaled: bool = False
    ) -> bool:
        """Return whether the step may be taken; otherwise gradients are gone and buffers as before.

        A loss that is not finite stops the run, or is told. Whether a step is skipped depends on the gradient's ``norm``
        alone, which is the same in all processes. One that was ``scaled`` does not stop the run: its scaler skips the step.

        Raises:
            UserError: a loss or the norm is not finite, in mode ``stop``; or the norm, too often in a row.
        """
        fine = norm.isfinite()
        if bool(torch.stack([fine, *(finite for finite, _, _ in self._seen)]).all()):
            self.in_a_row = 0
            return True
        takes, told = bool(fine), self._losses_told(step)
        if not self.skips:
            told = told if takes else of_all_processes(told)
            if told or not scaled:
                self._stop(step, told, network)
        for text in told:
            log.warning("%s; %s", text, "its gradient is finite, the step is taken" if takes else "the step is skipped")
        self.in_a_row = 0 if takes else self.in_a_row + 1
        if not takes:
            self._skip(step, network, () if scaled else parameters, MOST_SCALED if scaled else MOST_IN_A_ROW)
        return takes

    def _losses_told(self, step: int) -> list[str]:
        told = []
        for finite, losses, ids in self._seen:
            if not finite:
                bad = [f"{name} = {loss.item():g}" for name, loss in losses.items() if not loss.isfinite()]
                told.append(f"loss is not finite at step {step}: {', '.join(bad) or 'total'}; images {', '.join(ids)}")
        return told

    def _stop(self, step: int, told: Sequence[str], network: nn.Module) -> NoReturn:
        if told:
            raise UserError(
                f"{'; '.join(told)}. Training stopped, the last checkpoint is kept; lower optim.lr, look at these images' "
                "labels, or skip such steps with non_finite=skip"
            )
        named = network.named_parameters()
        bad = next((name for name, p in named if p.grad is not None and not p.grad.isfinite().all()), "the norm")
        often = f" {self.in_a_row} times in a row" if self.in_a_row > 1 else ""
        raise UserError(
            f"gradient is not finite at step {step}{often} (first in {bad}). Training stopped, the last checkpoint is "
            "kept; lower optim.lr or set trainer.precision=32-true"
        )

    def _skip(self, step: int, network: nn.Module, parameters: Iterable[nn.Parameter], most: int) -> None:
        if self.in_a_row > most:
            self._stop(step, (), network)
        self.skipped += 1
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for own, before in self._buffers:
                own.copy_(before)


def of_all_processes(told: Sequence[str]) -> list[str]:
    """Return what all processes have to tell, in each of them; each must call this."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return list(told)
    parts: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(parts, list(told))
    return [text for part in parts for text in part]
