"""Loss weightings, which reduce the tasks' losses to one number."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.lit.optim import check_at_least_zero

EPSILON = 1e-8
"""Added to a loss before its logarithm (MTMamba)."""


class Weighting(nn.Module):
    """Interface of all methods, and the losses' sum under constant factors, which adaptive methods replace.

    Args:
        tasks: names of the trained tasks; the order of all (T,) tensors here.
        weights: task -> constant factor of its loss, for every task at least. None: 1 for all.
        aux: factor of the preliminary predictions' losses (lineage: 1.0), which join their task's loss before anything
            else; 0 leaves them out.
    """

    factors: Tensor

    def __init__(self, tasks: Sequence[str], weights: Mapping[str, float] | None = None, aux: float = 1.0) -> None:
        super().__init__()
        weights = dict.fromkeys(tasks, 1.0) if weights is None else weights
        missing = [name for name in tasks if name not in weights]
        if missing:
            raise UserError(
                f"no loss weight for {', '.join(missing)}: add "
                + " ".join(f"+task_weights.weights.{name}=1" for name in missing)
            )
        check_at_least_zero("aux", aux)
        for name in tasks:
            check_at_least_zero(f"weights.{name}", float(weights[name]))
        self.tasks, self.aux = tuple(tasks), aux
        self.register_buffer("factors", torch.tensor([float(weights[name]) for name in tasks]), persistent=False)

    def join(self, final: Mapping[str, Tensor], aux: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one unweighted scalar loss for each task; a task's preliminary prediction may be missing."""
        return {name: final[name] + self.aux * aux[name] if name in aux else final[name] for name in self.tasks}

    def forward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter] = ()) -> Tensor:  # noqa: ARG002
        """Return the scalar to minimise from ``join``'s losses; ``parameters`` are for methods that look at gradients."""
        return self.total(self.factors * self.stack(losses))

    def total(self, losses: Tensor) -> Tensor:
        """Return the scalar to minimise from (T,) losses that carry their constant factors."""
        return losses.sum()

    def stack(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the losses as (T,), in the order of tasks."""
        return torch.stack([losses[name] for name in self.tasks])

    def after_step(self, before: Tensor, again: Callable[[], Tensor]) -> None:
        """Learn from an optimiser step; called after each.

        Args:
            before: (T,) losses of the step's (last) batch, without gradient, mean over processes.
            again: returns that batch's losses under the new weights, for one more forward pass.
        """

    def parameter_groups(self) -> list[dict[str, object]]:
        """Return groups of learned parameters for the optimiser; the schedule moves their learning rate as any other."""
        return []

    def check_trainer(self, precision: str, processes: int) -> None:
        """Raise a UserError where a method cannot work with this precision or number of processes."""


class FixedWeights(Weighting):
    """The sum of the tasks' losses under constant factors."""


class UncertaintyWeights(Weighting):
    """Learned log-variances s (Kendall et al., CVPR 2018): sum of (exp(-s) L + s) / 2.

    That is the paper's form for regression, taken for all tasks: its form for classification, exp(-s) L + s / 2, is the
    same function of s - log 2 up to a constant.

    ``lr`` is the base learning rate of s, without weight decay (our choice: with Adam s follows any loss within some
    hundred steps, where a backbone's 2e-5 would leave it near 0).
    """

    def __init__(
        self, tasks: Sequence[str], weights: Mapping[str, float] | None = None, aux: float = 1.0, lr: float = 1e-2
    ) -> None:
        super().__init__(tasks, weights, aux)
        check_at_least_zero("lr", lr)
        self.lr = lr
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))

    def total(self, losses: Tensor) -> Tensor:
        """Return the negative log-likelihood up to a constant."""
        return 0.5 * ((-self.log_variances).exp() * losses + self.log_variances).sum()

    def parameter_groups(self) -> list[dict[str, object]]:
        """Return the log-variances' own group."""
        return [{"params": [self.log_variances], "lr": self.lr, "weight_decay": 0.0}]


class DynamicWeightAverage(Weighting):
    """Weights by how slowly losses fall (DWA; Liu et al., CVPR 2019): T softmax(L(k-1) / L(k-2) / temperature).

    L(k) is a loss's mean over window k; the first two windows have weights of 1. A task that had no loss at all in a
    window counts as standing still (our choice).

    Args:
        tasks, weights, aux: see ``Weighting``.
        temperature: > 0; the paper's 2; larger is more even.
        window: > 0, optimiser steps averaged over. The paper takes an epoch; the default is one of NYUDv2 at batch 4 (our
            choice, so that the weights do not depend on the data set's size).
    """

    total_loss: Tensor
    steps: Tensor
    older: Tensor
    newer: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Mapping[str, float] | None = None,
        aux: float = 1.0,
        temperature: float = 2.0,
        window: int = 200,
    ) -> None:
        super().__init__(tasks, weights, aux)
        for name, value in {"temperature": temperature, "window": window}.items():
            if value <= 0:
                raise UserError(f"task_weights.{name}={value} must be above 0")
        self.temperature, self.window = temperature, window
        for name in ("total_loss", "older", "newer"):
            self.register_buffer(name, torch.zeros(len(self.tasks)))
        self.register_buffer("steps", torch.tensor(0))

    def total(self, losses: Tensor) -> Tensor:
        """Return the sum under the current window's weights."""
        rates = torch.where((self.older > 0) & (self.newer > 0), self.newer / self.older, 1.0)
        return (len(self.tasks) * (rates / self.temperature).softmax(0) * losses).sum()

    def after_step(self, before: Tensor, again: Callable[[], Tensor]) -> None:  # noqa: ARG002 - the losses before do
        """Add the step's losses to the window; at its end, move on to the next."""
        self.total_loss += before
        self.steps += 1
        ends = self.steps % self.window == 0
        self.older.copy_(torch.where(ends, self.newer, self.older))
        self.newer.copy_(torch.where(ends, self.total_loss / self.window, self.newer))
        self.total_loss.copy_(torch.where(ends, 0.0, self.total_loss))


class LossProduct(Weighting):
    """The product of losses, as sum of log(L + 1e-8): MTMamba's scheme.

    Constant factors change nothing but the value. A loss of exactly 0 comes from a batch without labels of its task and
    has no gradient to enlarge.
    """

    def total(self, losses: Tensor) -> Tensor:
        """Return the sum of logarithms."""
        return (losses + EPSILON).log().sum()


class Famo(Weighting):
    """Fast adaptive multitask optimisation (FAMO; Liu et al., NeurIPS 2023): all losses fall at the same rate.

    The step minimises c sum z log L with z = softmax(logits) and c = 1 / sum(z / L) constant. After it, the logits go
    against J_z^T (log L_before - log L_after) with Adam, as in the paper's Algorithm 2 and the authors' code, both losses
    being those of the same batch: one more forward pass in training mode, without gradient, which batch norms' running
    statistics see too.

    A task whose loss is exactly 0 (no labels in the batch) stays out of c, and logits wait for a complete batch (our
    choice). Constant factors change nothing but the value.

    ``lr`` is of the logits (beta; the authors' 0.025), ``decay`` theirs towards 0 (gamma).
    """

    logits: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Mapping[str, float] | None = None,
        aux: float = 1.0,
        lr: float = 0.025,
        decay: float = 1e-3,
    ) -> None:
        super().__init__(tasks, weights, aux)
        check_at_least_zero("lr", lr)
        check_at_least_zero("decay", decay)
        self.lr, self.decay = lr, decay
        for name in ("logits", "mean", "square"):
            self.register_buffer(name, torch.zeros(len(self.tasks)))
        self.register_buffer("steps", torch.tensor(0))

    def total(self, losses: Tensor) -> Tensor:
        """Return c sum z log L; its gradient is the losses' convex combination with weights c z / L."""
        present = losses != 0
        shares = torch.where(present, self.logits.softmax(0), 0.0)
        scale = 1 / (shares / (losses.detach() + EPSILON)).sum().clamp_min(EPSILON)
        return (scale * shares * (losses + EPSILON).log()).sum()

    def after_step(self, before: Tensor, again: Callable[[], Tensor]) -> None:
        """Move the logits by Adam (0.9, 0.999), its state in buffers so that checkpoints keep it."""
        if not bool((before > 0).all()):
            return
        fall = (before + EPSILON).log() - (again() + EPSILON).log()
        shares = self.logits.softmax(0)
        gradient = shares * (fall - (shares * fall).sum()) + self.decay * self.logits
        self.steps += 1
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.lerp_(gradient.square(), 1 - 0.999)
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
        self.logits -= self.lr * mean / (square.sqrt() + 1e-8)
