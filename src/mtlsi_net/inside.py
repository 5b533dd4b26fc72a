"""What a network looks at while it predicts: its tokens' assignments and its gates, caught on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.semantic_decoder import Gate


@dataclass
class Inside:
    """Caught from the forward passes inside ``watching``, on the CPU.

    Attributes:
        assignments: (B, T, M, h, w) of each pass: where each token looks; sums to 1 over positions.
        gates: (B, T, h, w) of each block of each pass: the share of CWIB's local branch, mean over channels.
    """

    assignments: list[Tensor] = field(default_factory=list)
    gates: list[Tensor] = field(default_factory=list)


@contextmanager
def watching(network: nn.Module) -> Iterator[Inside]:
    """Catch what the parts of ``network`` do inside the context; what it has no part for stays empty."""
    seen = Inside()

    def look_at_tokens(stage: nn.Module, args: tuple[Tensor, Tensor | None]) -> None:
        assert isinstance(stage, SemanticTokenDistiller)
        x, valid = args
        assignment = stage.assignment(stage.norm(x), valid)
        seen.assignments.append(torch.unflatten(assignment, 3, x.shape[3:]).float().cpu())

    def look_at_gate(gate: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        assert isinstance(gate, Gate)
        seen.gates.append(gate.weights(*args).mean(-1).float().cpu())

    handles = [
        m.register_forward_pre_hook(look_at_tokens) for m in network.modules() if isinstance(m, SemanticTokenDistiller)
    ]
    handles += [m.register_forward_pre_hook(look_at_gate) for m in network.modules() if isinstance(m, Gate)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def most_focused(assignment: Tensor, count: int) -> list[tuple[int, float]]:
    """Return the tokens that look at the fewest positions, with that number (exp of the entropy).

    Args:
        assignment: (M, h, w) of one task.
        count: of tokens to name.
    """
    spread = -torch.special.xlogy(assignment, assignment).sum((-1, -2))
    return [(k, float(spread[k].exp())) for k in spread.argsort()[:count].tolist()]
