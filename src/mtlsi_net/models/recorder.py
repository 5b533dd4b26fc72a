"""Recording of token assignments and gates during a network's forward passes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.semantic_decoder import Gate

Intervention = Callable[[nn.Module], list[RemovableHandle]]
"""Registers hooks on a network that change what passes between two of its parts."""


@contextmanager
def hooked(network: nn.Module, *interventions: Intervention) -> Iterator[None]:
    """Attach hooks to the network inside the context."""
    with ExitStack() as stack:
        for intervene in interventions:
            for handle in intervene(network):
                stack.enter_context(handle)
        yield


@dataclass
class Activations:
    """Recorded from the forward passes inside ``record_activations``, on the CPU.

    Attributes:
        assignments: (B, T, M, h, w) of each pass: assignment of each token; sums to 1 over positions.
        gates: (B, T, h, w) of each block of each pass: the share of CWIB's local branch, mean over channels.
    """

    assignments: list[Tensor] = field(default_factory=list)
    gates: list[Tensor] = field(default_factory=list)


@contextmanager
def record_activations(network: nn.Module) -> Iterator[Activations]:
    """Record activations of ``network`` inside the context; lists of parts that the network does not have stay empty."""
    recorded = Activations()

    def record_tokens(stage: nn.Module, args: tuple[Tensor, Tensor | None]) -> None:
        assert isinstance(stage, SemanticTokenDistiller)
        x, valid = args
        assignment = stage.assignment(stage.norm(x), valid)
        recorded.assignments.append(torch.unflatten(assignment, 3, x.shape[3:]).float().cpu())

    def record_gate(gate: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        assert isinstance(gate, Gate)
        recorded.gates.append(gate.weights(*args).mean(-1).float().cpu())

    def attach(network: nn.Module) -> list[RemovableHandle]:
        parts = {SemanticTokenDistiller: record_tokens, Gate: record_gate}
        return [m.register_forward_pre_hook(h) for m in network.modules() for t, h in parts.items() if isinstance(m, t)]

    with hooked(network, attach):
        yield recorded


def most_focused(assignment: Tensor, count: int) -> list[tuple[int, float]]:
    """Return the ``count`` tokens of one task's (M, h, w) that look at the fewest positions, and how many: exp(entropy)."""
    spread = -torch.special.xlogy(assignment, assignment).sum((-1, -2))
    return [(k, float(spread[k].exp())) for k in spread.argsort()[:count].tolist()]
