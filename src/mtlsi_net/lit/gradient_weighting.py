"""Loss weights from the tasks' gradients, by the methods of the torchjd library."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.lit.weighting import Weighting

INSTALL = "pip install 'mtlsi-net[balancing]'"
METHODS = ("AlignedMTL", "CAGrad", "DualProj", "FairGrad", "IMTLG", "MGDA", "PCGrad", "UPGrad")
"""torchjd's methods that give each task a weight from the tasks' inner products alone and remember nothing."""


class GradientWeights(Weighting):
    """Weights from the inner products of the tasks' gradients at the parameters that more than one task reaches.

    Any step sum w g of the methods here (PCGrad's projections too) is that of the loss sum w L, so it is this loss that
    is minimised: clipping, accumulation and logging see nothing unusual. A task's own parameters get its weight too, as
    in MGDA's code. With accumulation every batch finds its own weights.

    T tasks cost T more backward passes and the memory of T more gradients. A task without gradient (no labels in the
    batch) takes no part and has weight 1, as has a single task. ``options`` are those of torchjd's class for ``method``
    (one of ``METHODS``). Torchjd is needed for training only: a checkpoint is evaluated without it.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Mapping[str, float] | None = None,
        aux: float = 1.0,
        *,
        method: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(tasks, weights, aux)
        self.method, self.options = method, dict(options or {})

    @cached_property
    def weigh(self) -> Callable[[Tensor], Tensor]:
        """Torchjd's function from inner products (T, T) to weights (T,); a UserError without it or for wrong options."""
        name = choose("task_weights.method", self.method, {known: f"{known}Weighting" for known in METHODS})
        try:
            found: Callable[[Tensor], Tensor] = getattr(importlib.import_module("torchjd.aggregation"), name)(
                **self.options
            )
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"task_weights.method={self.method} needs torchjd: {INSTALL} ({reason})") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"task_weights.options={self.options} do not fit {self.method}: {error}") from None
        return found

    def forward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter] = ()) -> Tensor:
        """Return the losses' sum under weights found from their gradients at ``parameters``."""
        scaled = {name: factor * losses[name] for name, factor in zip(self.tasks, self.factors, strict=True)}
        gramian = shared_gramian(list(scaled.values()), [p for p in parameters if p.requires_grad])
        found = torch.ones_like(self.factors)
        present = gramian.diagonal() > 0
        if bool(gramian.isfinite().all()) and int(present.sum()) > 1:  # what is not finite, the training step reports
            found[present] = self.weigh(gramian[present][:, present]).to(found)
        return (found * self.stack(scaled)).sum()

    def check_trainer(self, precision: str, processes: int) -> None:
        """Raise a UserError for several processes (each would find weights of its own), float16, or as ``weigh``."""
        _ = self.weigh
        if processes > 1:
            raise UserError(f"gradient-level task_weights run on one device, not {processes}; set trainer.devices=1")
        if precision.startswith("16"):
            raise UserError(
                f"gradient-level task_weights need unscaled gradients, which trainer.precision={precision} cannot hold; "
                "set it to bf16-mixed or 32-true"
            )


def shared_gramian(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the inner products (T, T) of T losses' gradients at those ``parameters`` that more than one loss reaches."""
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses]
    gramian = torch.zeros(len(rows), len(rows), device=losses[0].device)
    for parameter, gradients in zip(parameters, zip(*rows, strict=True), strict=True):
        if sum(gradient is not None for gradient in gradients) > 1:
            full = [torch.zeros_like(parameter) if gradient is None else gradient for gradient in gradients]
            matrix = torch.stack(full).flatten(1).float()
            with torch.autocast(matrix.device.type, enabled=False):  # the step's bfloat16 would round the products
                gramian += matrix @ matrix.mT
    return gramian
