from itertools import groupby

import pytest
import torch
from helpers.miniature import compose_config

from mtlsi_net.benchmarks.runner import (
    FORWARD_PEAK,
    PART,
    PARTS,
    STEP,
    STEP_PEAK,
    Meter,
    Runner,
    random_batch,
)
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.trainer import build_module

CPU = torch.device("cpu")
PEER = ("model=external", "model.target=helpers.peer.Peer")


class CountingMeter(Meter):
    """Every mark is a second after the one before; every work needs 100 bytes."""

    def __init__(self):
        super().__init__(CPU)
        self.count = 0

    def mark(self):
        self.count += 1
        return float(self.count)

    def measure(self, work):
        return super().measure(work)[0], 100.0


def make_runner(*overrides):
    cfg = compose_config("data=nyud", *overrides)
    tasks = build_tasks(cfg)
    module = build_module(cfg, build_network(cfg, tasks), tasks, priors={}, config={})
    runner = Runner(module, random_batch(tasks, (64, 64), 2, 0, CPU), None)
    runner.meter = CountingMeter()
    return runner


def test_labels_are_such_as_loaders_give():
    tasks = build_tasks(compose_config("data=pascal", "+task@tasks.depth=depth"))
    batch = random_batch(tasks, (32, 48), 2, 0, CPU)
    assert batch["image"].shape == (2, 3, 32, 48)
    for name, task in tasks.items():
        target = batch["targets"][name]
        assert target.shape == (2, task.target.channels, 32, 48)
        if task.target.kind in ("classes", "binary"):
            assert target.unique().tolist() == list(range(task.target.num_classes or 2))
    assert 9 < batch["targets"]["depth"].max() <= 10
    torch.testing.assert_close(batch["targets"]["normals"].norm(dim=1), torch.ones(2, 32, 48))


def test_peaks_are_of_what_one_network_keeps_and_needs():
    runner = make_runner(*PEER)
    parameters = sum(p.nbytes for p in runner.module.parameters())
    buffers = sum(b.nbytes for b in runner.module.buffers())
    assert runner.forward()[FORWARD_PEAK] == 100 + parameters + buffers
    steps = 4 * len(list(runner.module.parameters()))
    assert runner.step()[STEP_PEAK] == 100 + 3 * parameters + buffers + steps  # Adam keeps two values a parameter


def test_a_step_trains_and_leaves_no_gradient():
    runner = make_runner(*PEER)
    before = [p.clone() for p in runner.module.parameters()]
    told = runner.step()
    assert told[STEP] == 4
    assert not any(what.startswith(PART) for what in told)  # this network has no encoder
    after = list(runner.module.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)
    assert runner.module.network.training


@pytest.mark.parametrize("overrides", [(), ("model=single_task",), ("model=invpt", "activation_checkpointing=true")])
def test_a_step_is_the_encoders_the_decoders_and_the_optimisers_time(overrides):
    runner = make_runner("model.width=32", *(["model.head_dim=32"] if not overrides else []), *overrides)
    log = []

    class LoggingMeter(CountingMeter):
        def mark(self):
            log.append("mark")
            return super().mark()

    def told(what):
        return lambda *_: log.append(what)

    runner.meter = LoggingMeter()
    network = runner.module.network
    network.encoder.register_forward_pre_hook(told("encoder"))
    for name, parameter in network.named_parameters():
        parameter.register_hook(told("encoder's gradient" if name.startswith("encoder.") else "decoder's gradient"))
    runner.optimizer.register_step_pre_hook(told("optimiser"))
    found = runner.step()

    assert [what for what, _ in groupby(log)] == [
        "mark",  # the measurement's and the step's start
        "encoder",
        "mark",
        "decoder's gradient",
        "mark",
        "encoder's gradient",
        "mark",
        "optimiser",
        "mark",
    ]
    assert [found[PART + name] for name in PARTS] == [1 + 1, 2, 1]
    assert found[STEP] == 7


def test_events_time_a_gpu_and_its_memory_is_counted_from_the_start(monkeypatch):
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            calls.append("record")

        def elapsed_time(self, end):
            assert isinstance(end, Event)
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4000)
    assert Meter(torch.device("cuda")).measure(lambda: calls.append("work")) == (pytest.approx(1.5), 3000)
    assert calls == ["wait", "reset", "record", "work", "record", "wait"]
