"""One network at work on random data: how long it takes, stage by stage, and what memory it needs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.benchmarks.meters import Meter
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.specs import Batch, TargetSpec
from mtlsi_net.tasks.base import Task

FORWARD, STEP, STAGE, PART = "forward", "train step", "stage: ", "part: "
"""Seconds of a batch; stages are the network's children during ``FORWARD``, parts are ``PARTS`` of ``STEP``."""
PARTS = ("encoder", "decoder", "optimiser")
"""Forward and backward pass of the encoder, of all behind it with the losses, and the update of the weights."""
FORWARD_PEAK, STEP_PEAK = "forward peak", "train step peak"
"""Bytes: the peak of what the network alone would take, weights and optimiser's state included, the batch not; NaN if
unknown."""
DEPTH = 10.0
"""Largest random depth, in metres."""


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
    return noise * DEPTH if spec.kind == "scalar" else noise.round()


class Runner:
    """Runs one network and tells seconds and bytes.

    Args:
        module: the network, its losses and its optimiser's recipe, on the batch's device.
        batch: what it runs on, again and again.
        meter: of that device.
        dtype: of autocasting; None is none.
    """

    def __init__(self, module: MultiTaskModule, batch: Batch, meter: Meter, dtype: torch.dtype | None) -> None:
        self.module, self.batch, self.meter = module, batch, meter
        self.optimizer, _ = module.recipe.build(module.network, max_steps=1, fused=True)
        self.autocast = partial(torch.autocast, batch["image"].device.type, dtype, enabled=dtype is not None)

    def forward(self) -> dict[str, float]:
        """Run in eval mode, without gradient and without a mask of padding, as operations are counted.

        Returns:
            ``FORWARD``, ``FORWARD_PEAK`` and ``STAGE`` + name of each of the network's direct children that was called.
        """
        self.module.eval()
        with _stage_marks(self.module.network, self.meter) as stages:
            seconds, peak = self.meter.measure(self._predict)
        times = {
            STAGE + name: sum(map(self.meter.seconds, marks[::2], marks[1::2]))
            for name, marks in stages.items()
            if marks
        }
        return {FORWARD: seconds, **times, FORWARD_PEAK: peak + _weight_bytes(self.module)}

    def step(self) -> dict[str, float]:
        """Train by one step: forward with the mask that loaders give, losses, backward, optimiser.

        Returns:
            ``STEP``, ``STEP_PEAK``, and ``PART`` + name of the ``PARTS`` of a network with one encoder.
        """
        self.module.train()
        ends: list[Any] = []
        with _encoder_marks(self.module.network, self.meter) as encoder:
            seconds, peak = self.meter.measure(lambda: ends.extend(self._train()))
        values = [value for state in self.optimizer.state.values() for value in state.values()]
        kept = sum(value.nbytes for value in values if isinstance(value, Tensor))
        parts = self._parts(encoder, *ends)
        return {STEP: seconds, **parts, STEP_PEAK: peak + _weight_bytes(self.module) + kept}

    def _parts(self, encoder: Sequence[Any], start: Any, middle: Any, end: Any) -> dict[str, float]:  # noqa: ANN401
        if not encoder:
            return {}
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


@contextmanager
def _stage_marks(network: nn.Module, meter: Meter) -> Iterator[dict[str, list[Any]]]:
    """Give each direct child's name -> marks before and after each of its calls inside the context."""
    marks: dict[str, list[Any]] = {name: [] for name, _ in network.named_children()}
    handles = []
    for name, child in network.named_children():

        def mark(*_: object, own: list[Any] = marks[name]) -> None:
            own.append(meter.mark())

        handles += [child.register_forward_pre_hook(mark), child.register_forward_hook(mark)]
    try:
        yield marks
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _encoder_marks(network: nn.Module, meter: Meter) -> Iterator[list[Any]]:
    """Give marks before and after the encoder's forward pass, and before its backward pass, which comes last of all."""
    marks: list[Any] = []
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        yield marks
        return

    def mark(*_: object) -> None:
        marks.append(meter.mark())

    def arrive(_: Tensor) -> None:
        # The first map's gradient; autograd goes backward in the order of creation, so the whole decoder's came before.
        if len(marks) == 2:
            mark()

    def watch(_: nn.Module, __: object, maps: Sequence[Tensor]) -> None:
        mark()
        for x in maps:
            if x.requires_grad:
                x.register_hook(arrive)  # type: ignore[no-untyped-call] # torch ships it untyped

    handles = [encoder.register_forward_pre_hook(mark), encoder.register_forward_hook(watch)]
    try:
        yield marks
    finally:
        for handle in handles:
            handle.remove()
