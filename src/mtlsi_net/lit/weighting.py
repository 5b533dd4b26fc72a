"""How the tasks' losses become one number: the only place that knows loss weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtlsi_net.utils.errors import UserError


class FixedWeights(nn.Module):
    """Weighted sum of the final losses, plus ``aux`` times the weighted sum of the preliminary ones.

    Args:
        weights: task -> weight; may name more tasks than are trained.
        aux: factor of the preliminary predictions' losses (lineage: 1.0); 0 leaves them out.
    """

    def __init__(self, weights: Mapping[str, float], aux: float = 1.0) -> None:
        super().__init__()
        self.weights, self.aux = dict(weights), aux

    def check(self, tasks: Mapping[str, object]) -> None:
        """Raise a UserError for a task without weight."""
        missing = [name for name in tasks if name not in self.weights]
        if missing:
            raise UserError(f"no loss weight for {', '.join(missing)}: add task_weights.weights.<task>=<number>")

    def forward(self, final: Mapping[str, Tensor], aux: Mapping[str, Tensor]) -> Tensor:
        """Return the total of the unweighted scalar losses ``final`` and ``aux``."""

        def weighted(losses: Mapping[str, Tensor]) -> list[Tensor]:
            return [self.weights[name] * loss for name, loss in losses.items()]

        total = sum(weighted(final)) + self.aux * sum(weighted(aux))
        assert isinstance(total, Tensor)
        return total
