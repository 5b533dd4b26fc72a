"""Memory count of a training step without a device, by fake tensors, which have sizes but no values."""

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from mtlsi_net.core.types import Batch
from mtlsi_net.lit.module import MultiTaskModule

PROBE = 1000
"""Number of values of the parameter with which an optimiser's state is measured."""


class StepBytes(NamedTuple):
    """Bytes of a training step.

    ``saved`` are distinct storages kept for the backward pass, without parameters; ``working`` is the largest sum of
    live results of forward and backward: activations, gradients and temporary values.
    """

    parameters: int
    buffers: int
    gradients: int
    optimiser: int
    saved: int
    working: int

    @property
    def peak(self) -> int:
        """Total at the peak of forward and backward."""
        return self.parameters + self.buffers + self.optimiser + self.working


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch ships it untyped
    """Adds up the storages that operations inside the context make, until they are freed.

    torch.distributed._tools' MemTracker gives the same sums within 5 %, in eight times the processor time, and does not
    report what is kept for the backward pass. ``now`` are the bytes that live, ``peak`` their largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch ships it untyped
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, out)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self.ignore(tensor)
            self._change(storage.nbytes())
            weakref.finalize(storage, self._change, -storage.nbytes())

    def _change(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def ignore(self, tensor: Tensor) -> None:
        """Never count a tensor's storage."""
        self._known[tensor.untyped_storage()] = True


def count_step(module: MultiTaskModule, batch: Batch, dtype: torch.dtype | None) -> StepBytes:
    """Count a training step on ``batch`` (whose bytes are not counted), autocasting to ``dtype`` if not None.

    It counts for the CPU's kernels, as a GPU's need a GPU; a GPU's attention may keep less.
    """
    module.train()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, LiveBytes() as live:
        tensors = (*module.named_parameters(), *module.named_buffers())
        owned: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in tensors}
        known = {name: fake.from_tensor(tensor) for name, tensor in batch["targets"].items()}
        image, valid = fake.from_tensor(batch["image"]), fake.from_tensor(batch["valid"])
        for tensor in (*owned.values(), *known.values(), image, valid):
            live.ignore(tensor)
        parameters = {id(tensor.untyped_storage()) for tensor in owned.values()}
        saved: dict[int, torch.UntypedStorage] = {}  # held so that ids stay unique

        def keep(tensor: Tensor) -> Tensor:
            saved[id(tensor.untyped_storage())] = tensor.untyped_storage()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", dtype, enabled=dtype is not None):
            prediction = functional_call(module, owned, (image, valid))
            total = module.weighting(*module.losses(prediction, known))
            total = sum(prediction.regularisers.values(), total)
        kept = sum(storage.nbytes() for key, storage in saved.items() if key not in parameters)
        saved.clear()
        total.backward()
    gradients = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    weights, buffers = (sum(x.nbytes for x in tensors) for tensors in (module.parameters(), module.buffers()))
    return StepBytes(weights, buffers, gradients, round(_state_per_byte(module) * gradients), kept, live.peak)


def _state_per_byte(module: MultiTaskModule) -> float:
    """Return the bytes of the optimiser's state per byte of a parameter."""
    probe = nn.Parameter(torch.zeros(PROBE))
    optimizer = module.recipe.optimizer([{"params": [probe], "lr": 1e-3, "weight_decay": 0.0}])
    probe.grad = torch.ones(PROBE)
    optimizer.step()
    state = [value for value in optimizer.state[probe].values() if isinstance(value, Tensor)]
    return sum(value.nbytes for value in state if value.numel() == PROBE) / probe.nbytes
