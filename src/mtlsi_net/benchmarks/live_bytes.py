"""Memory of a training step, counted without a device: fake tensors know their sizes and hold no values."""

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.specs import Batch

PROBE = 1000
"""Values of the parameter that tells what an optimiser keeps for each."""


class StepBytes(NamedTuple):
    """Bytes of a training step: what the loss and what the whole of forward and backward hold.

    ``saved`` are distinct storages kept for the backward pass, parameters left out; ``working`` is the largest sum of
    what forward and backward made and had not freed: activations, gradients and temporary values.
    """

    parameters: int
    buffers: int
    gradients: int
    optimiser: int
    saved: int
    working: int

    @property
    def peak(self) -> int:
        """All of it at the worst moment of forward and backward."""
        return self.parameters + self.buffers + self.optimiser + self.working


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch ships it untyped
    """Adds up the storages that operations inside the context make, until they are freed.

    Attributes:
        now: bytes that live.
        peak: their largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch ships it untyped
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, out)
        return out

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now on."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)

    def ignore(self, tensor: Tensor) -> None:
        """Never count a tensor's storage."""
        storage = tensor.untyped_storage()
        self._known[id(storage)] = weakref.ref(storage)


def count_step(module: MultiTaskModule, batch: Batch, dtype: torch.dtype | None) -> StepBytes:
    """Count a training step on ``batch`` (whose own bytes are left out), autocasting to ``dtype`` if not None.

    Kernels are the CPU's, as a GPU's need one: a GPU's attention may keep less.
    """
    module.train()
    trained = [p for p in module.parameters() if p.requires_grad]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, LiveBytes() as live:
        tensors = (*module.named_parameters(), *module.named_buffers())
        owned: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in tensors}
        known = {name: fake.from_tensor(tensor) for name, tensor in batch["targets"].items()}
        image, valid = fake.from_tensor(batch["image"]), fake.from_tensor(batch["valid"])
        for tensor in (*owned.values(), *known.values(), image, valid):
            live.ignore(tensor)
        saved: dict[int, tuple[torch.UntypedStorage, int]] = {}  # held, so that no id comes twice
        parameters = {id(tensor.untyped_storage()) for tensor in owned.values()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            saved[id(storage)] = storage, storage.nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", dtype, enabled=dtype is not None):
            prediction = functional_call(module, owned, (image, valid))
            total = module.weighting(*module.losses(prediction, known))
            total = sum(prediction.regularisers.values(), total)
        kept = sum(size for key, (_, size) in saved.items() if key not in parameters)
        saved.clear()
        total.backward()
        working = live.peak
    gradients = sum(p.nbytes for p in trained)
    own, buffers = (sum(x.nbytes for x in tensors) for tensors in (module.parameters(), module.buffers()))
    return StepBytes(own, buffers, gradients, round(_kept_per_byte(module) * gradients), kept, working)


def _kept_per_byte(module: MultiTaskModule) -> float:
    """Return the bytes that the optimiser keeps for each of a parameter."""
    probe = nn.Parameter(torch.zeros(PROBE))
    optimizer = module.recipe.optimizer([{"params": [probe], "lr": 1e-3, "weight_decay": 0.0}])
    probe.grad = torch.ones(PROBE)
    optimizer.step()
    values = [
        value for value in optimizer.state[probe].values() if isinstance(value, Tensor) and value.numel() == PROBE
    ]
    return sum(value.nbytes for value in values) / probe.nbytes
