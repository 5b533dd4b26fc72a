"""Interventions on a trained network: hooks that change what passes between two of its parts."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mtlsi_net.models.fusion import SharedContextAttention, SoftmaxContextAttention
from mtlsi_net.models.layers.linear_attention import PerTaskContext
from mtlsi_net.models.recorder import Intervention


def drop_from_context(task: int) -> Intervention:
    """Remove one task's source from every context, which then is the mean of the others."""

    def change(_: nn.Module, args: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        kept = torch.ones(args[0].shape[1], device=args[0].device)
        kept[task] = 0
        context, total = (x * kept.view(1, -1, *(1,) * (x.ndim - 2)).to(x.dtype) for x in args)
        return context, total

    return lambda network: [module.register_forward_pre_hook(change) for module in contexts_of(network)]


def drop_from_tokens(task: int, tasks: int) -> Intervention:
    """Remove one task's tokens from the shared set after mixing; the other tokens keep information from it."""

    def change(_: nn.Module, __: object, tokens: Tensor) -> Tensor:
        by_task = torch.unflatten(tokens, 2, (tasks, -1))
        return by_task[:, :, [t for t in range(tasks) if t != task]].flatten(2, 3)

    return lambda network: [network.get_submodule("distiller").register_forward_hook(change)]


def context_of_another_image(network: nn.Module) -> list[RemovableHandle]:
    """Give every image the context of the previous image in the batch."""

    def change(_: nn.Module, args: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return tuple(x.roll(1, 0) for x in args)

    return [module.register_forward_pre_hook(change) for module in contexts_of(network)]


def tokens_of_another_image(network: nn.Module) -> list[RemovableHandle]:
    """Give every image the tokens of the previous image in the batch."""
    distiller = network.get_submodule("distiller")
    return [distiller.register_forward_hook(lambda _, __, tokens: tokens.roll(1, 0))]


def contexts_of(network: nn.Module) -> list[nn.Module]:
    """Return the modules through which context matrices pass."""
    return [
        module.context
        for module in network.modules()
        if isinstance(module, SharedContextAttention) and not isinstance(module, SoftmaxContextAttention)
    ]


def shares_context(network: nn.Module) -> bool:
    """Return whether tasks read each other's contexts, one source per task."""
    contexts = contexts_of(network)
    return bool(contexts) and not any(isinstance(module, PerTaskContext) for module in contexts)
