"""Runner of one network on random data, with its device's clock and memory gauge."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.types import Batch, TargetSpec
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.tasks.base import Task

FORWARD, STEP, PART = "forward", "train step", "part: "
"""Seconds of a batch; parts are ``PARTS`` of ``STEP``."""
PARTS = ("encoder", "decoder", "optimiser")
"""Forward and backward pass of the encoder, of all behind it with the losses, and the update of the weights."""
FORWARD_PEAK, STEP_PEAK = "forward peak", "train step peak"
"""Bytes: the peak of what the network alone would take, weights and optimiser's state included, the batch not; NaN if
unknown."""
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}
"""Trainer's name -> type of autocasting."""
MAX_DEPTH = 10.0
"""Maximum random depth, in metres."""


def open_device(name: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises:
        UserError: another name, or no GPU.
    """
    choose("device", name, {"auto": None, "cpu": None, "cuda": None})
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device=cuda, but torch finds no GPU; set device=cpu, or install a torch built for CUDA")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def step_settings(cfg: DictConfig) -> tuple[torch.dtype | None, torch.device]:
    """Return the type of autocasting (None: none) and the device."""
    return choose("precision", cfg.precision, PRECISIONS), open_device(cfg.device)


def device_record(device: torch.device, precision: str) -> dict[str, Any]:
    """Return the device and number formats of a measurement."""
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "float32 matmul": torch.get_float32_matmul_precision(),
        "TF32 in convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
    }


class Meter:
    """A device's clock and memory gauge.

    On a GPU, time is between events in its stream, so that marks inside a pass cost nothing: ``torch.utils.benchmark``
    waits for the device at each, ``torch.profiler`` slows every operation and knows no module in the backward pass.
    On a CPU it is wall-clock time, and memory is unknown, as the allocator does not tell.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"

    def mark(self) -> Any:  # noqa: ANN401 - an event or a time
        """Return this moment in the device's work, without waiting for it."""
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        """Return the time between two marks that have happened."""
        return float(start.elapsed_time(end)) / 1e3 if self.on_gpu else end - start

    def measure(self, work: Callable[[], None]) -> tuple[float, float]:
        """Return the seconds of ``work``, and the bytes that it needed at most beyond those allocated before."""
        before = 0
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        start = self.mark()
        work()
        end = self.mark()
        if self.on_gpu:
            torch.cuda.synchronize()
        return self.seconds(start, end), torch.cuda.max_memory_allocated() - before if self.on_gpu else math.nan


def random_batch(tasks: Mapping[str, Task], size: Sequence[int], count: int, seed: int, device: torch.device) -> Batch:
    """Return ``count`` images of noise, (H, W) = ``size``, without padding, with a noisy label of every task."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, size[0], size[1])
    targets = {name: _random_target(task.target, shape, generator).to(device) for name, task in tasks.items()}
    return {
        "image": torch.rand(shape, generator=generator).to(device),
        "valid": torch.ones(count, 1, *size, dtype=torch.bool, device=device),
        "id": [str(index) for index in range(count)],
        "targets": targets,
        "references": {},
    }


def _random_target(spec: TargetSpec, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.rand(shape[0], spec.channels, *shape[2:], generator=generator)
    if spec.kind == "classes":
        return (noise * (spec.num_classes or 1)).floor()
    if spec.kind == "vector":
        return F.normalize(noise - 0.5, dim=1)
    return noise * MAX_DEPTH if spec.kind == "scalar" else noise.round()


class Runner:
    """Runs a module on one batch of its device, autocasting to ``dtype`` if not None; returns seconds and bytes."""

    def __init__(self, module: MultiTaskModule, batch: Batch, dtype: torch.dtype | None) -> None:
        device = batch["image"].device
        self.module, self.batch, self.meter = module, batch, Meter(device)
        self.optimizer, _ = module.recipe.build(module.network, max_steps=1, fused=True)
        self.autocast = partial(torch.autocast, device.type, dtype, enabled=dtype is not None)

    def forward(self) -> dict[str, float]:
        """Return ``FORWARD`` and its peak, in eval mode, without gradient or mask of padding, as operations are counted."""
        self.module.eval()
        seconds, peak = self.meter.measure(self._predict)
        return {FORWARD: seconds, FORWARD_PEAK: peak + _weight_bytes(self.module)}

    def step(self) -> dict[str, float]:
        """Train by one step: forward with the mask that loaders give, losses, backward, optimiser.

        Returns:
            ``STEP``, ``STEP_PEAK``, and ``PART`` + name of the ``PARTS`` of a network with one encoder.
        """
        self.module.train()
        ends: list[Any] = []
        marks: list[Any] = []  # before and after the encoder's forward pass, before its backward pass

        def arrive(_: Tensor) -> None:
            # The first map's gradient; autograd goes backward in the order of creation, so the whole decoder's came before.
            if len(marks) == 2:
                self._mark(marks)

        def watch(_: nn.Module, __: object, maps: Sequence[Tensor]) -> None:
            self._mark(marks)
            for x in maps:
                if x.requires_grad:
                    x.register_hook(arrive)  # type: ignore[no-untyped-call] # torch ships it untyped

        encoder = getattr(self.module.network, "encoder", None)
        with ExitStack() as hooks:
            if isinstance(encoder, nn.Module):
                hooks.enter_context(encoder.register_forward_pre_hook(partial(self._mark, marks)))
                hooks.enter_context(encoder.register_forward_hook(watch))
            seconds, peak = self.meter.measure(lambda: ends.extend(self._train()))
        values = [value for state in self.optimizer.state.values() for value in state.values()]
        kept = sum(value.nbytes for value in values if isinstance(value, Tensor))
        parts = self._parts(marks, *ends) if marks else {}
        return {STEP: seconds, **parts, STEP_PEAK: peak + _weight_bytes(self.module) + kept}

    def _mark(self, marks: list[Any], *_: object) -> None:
        marks.append(self.meter.mark())

    def _parts(self, encoder: Sequence[Any], start: Any, middle: Any, end: Any) -> dict[str, float]:  # noqa: ANN401
        inside = self.meter.seconds(*encoder[:2])
        if len(encoder) > 2:  # no gradient reaches a frozen one
            inside += self.meter.seconds(encoder[2], middle)
        seconds = inside, self.meter.seconds(start, middle) - inside, self.meter.seconds(middle, end)
        return {PART + name: took for name, took in zip(PARTS, seconds, strict=True)}

    def _predict(self) -> None:
        with torch.no_grad(), self.autocast():
            self.module(self.batch["image"])

    def _train(self) -> tuple[Any, Any, Any]:
        """Return marks at the start, after the backward pass, and at the end."""
        start = self.meter.mark()
        with self.autocast():
            prediction = self.module(self.batch["image"], self.batch["valid"])
            total = self.module.weighting(*self.module.losses(prediction, self.batch["targets"]))
        total.backward()
        middle = self.meter.mark()
        self.optimizer.step()
        self.optimizer.zero_grad()  # so that between the steps no gradient is left
        return start, middle, self.meter.mark()


def _weight_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
