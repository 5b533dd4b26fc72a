"""How often a training step makes the processor wait for the device."""

from types import SimpleNamespace

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from lightning.pytorch.callbacks import RichProgressBar
from torch.utils._python_dispatch import TorchDispatchMode

from mtlsi_net.engine.train import train
from mtlsi_net.lit.callbacks import ProgressBar
from mtlsi_net.lit.module import MultiTaskModule

WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default}


class CountWaits(TorchDispatchMode):
    """Counts operations whose result the processor must have before it can go on."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in WAITS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options", [(), ("non_finite=skip", "loss_norm=global"), ("task_weights=uncertainty",), ("task_weights=dwa",)]
)
def test_a_step_waits_once(tmp_path, monkeypatch, options):
    waits = CountWaits()

    whole_step = MultiTaskModule.optimizer_step  # forward and backward are its closure

    def counted(*args, **kwargs):
        with waits:
            return whole_step(*args, **kwargs)

    monkeypatch.setattr(MultiTaskModule, "optimizer_step", counted)
    data = write_miniature(tmp_path / "data")
    more = ("trainer.log_every_n_steps=50", *options)
    train(compose_config(*short_overrides(data, tmp_path / "run", steps=3), *more))
    assert waits.count == 3


def test_the_bar_reads_losses_of_a_gpu_when_they_are_logged(monkeypatch):
    calls = []

    def read(_, trainer, module):  # noqa: ARG001 - Lightning's signature
        calls.append(trainer.global_step)
        return {"step": trainer.global_step}

    monkeypatch.setattr(RichProgressBar, "get_metrics", read)
    bar = ProgressBar(every=10)

    def shown(step, device, training=True):
        trainer = SimpleNamespace(global_step=step, training=training)
        return bar.get_metrics(trainer, SimpleNamespace(device=torch.device(device)))["step"]

    assert [shown(step, "cuda") for step in (10, 11, 19, 20, 21)] == [10, 10, 10, 20, 20]
    calls.clear()
    assert [shown(30, "cuda") for _ in range(3)] == [30] * 3  # micro-batches of one step
    assert calls == [30]
    assert shown(22, "cpu") == 22
    assert shown(23, "cuda", training=False) == 23
