"""Every choice of ``task_weights=`` in short real training, through Lightning's loop."""

import math
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.train import train
from mtlsi_net.engine.trainer import build_module

CHOICES = sorted(p.stem for p in (Path(__file__).parents[2] / "conf" / "task_weights").glob("[a-z]*.yaml"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


class Logged(L.Callback):
    """Keeps what every batch logged."""

    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, *_):
        self.rows.append({key: value.item() for key, value in trainer.callback_metrics.items()})


class Trained:
    """A module after some steps on the miniature, without validation."""

    def __init__(self, data, *overrides, stop=None, ckpt=None, **trainer):
        cfg = compose_config(*short_overrides(data, data, steps=4), "optim.lr=1e-3", *overrides)
        L.seed_everything(0, workers=True, verbose=False)
        tasks = build_tasks(cfg)
        module_data = build_data(cfg, tasks)
        network = build_network(cfg, tasks)
        priors = fit_priors(module_data, tasks)
        self.module = build_module(cfg, network, tasks, priors=priors, config={})
        self.before = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.logged = Logged()
        options = {"max_steps": 4, "gradient_clip_val": 10.0, "accelerator": "cpu"} | trainer
        stopper = [] if stop is None else [StopAfter(stop)]
        self.trainer = L.Trainer(
            **options,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[self.logged, *stopper],
        )
        self.trainer.fit(self.module, datamodule=module_data, ckpt_path=ckpt)


class StopAfter(L.Callback):
    """Ends a run early, with the schedule of the whole one."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= self.steps


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_trains_and_logs_the_weights_in_use(data, choice):
    run = Trained(data, f"task_weights={choice}", "task_weights.aux=1.0", max_steps=2)
    after = run.module.state_dict()
    moved = [key for key, value in run.before.items() if not torch.equal(value, after[key])]
    assert any(key.startswith("network.encoder") for key in moved)
    assert all(value.isfinite().all() for value in after.values())
    assert all(math.isfinite(run.logged.rows[-1][f"train/{name}/weight"]) for name in run.module.tasks)


@pytest.mark.parametrize(("choice", "state"), [("famo", "logits"), ("dwa", "newer")])
def test_four_steps_are_two_and_two_more_from_the_checkpoint(data, tmp_path, choice, state):
    overrides = [f"task_weights={choice}", *(["task_weights.window=1"] if choice == "dwa" else [])]
    whole, half = Trained(data, *overrides), Trained(data, *overrides, stop=2)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = Trained(data, *overrides, ckpt=tmp_path / "half.ckpt")
    assert (half.trainer.global_step, rest.trainer.global_step) == (2, 4)
    found, expected, earlier = (run.module.state_dict()[f"weighting.{state}"] for run in (rest, whole, half))
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.equal(expected, earlier)
    for name in whole.module.tasks:
        last = [run.logged.rows[-1][f"train/{name}/weight"] for run in (rest, whole)]
        assert last[0] == pytest.approx(last[1], rel=1e-4)


def test_learned_weights_keep_their_own_learning_rate(data):
    run = Trained(data, "task_weights=uncertainty", "optim.weight_decay=0.1", max_steps=1)
    group = run.trainer.optimizers[0].param_groups[-1]
    assert (group["initial_lr"], group["weight_decay"]) == (1e-2, 0.0)
    assert run.module.weighting.log_variances.detach().abs().tolist() == pytest.approx([1e-2] * 4, rel=1e-3)


@pytest.mark.parametrize("choice", ["famo", "mgda"])
def test_accumulation_and_bf16_work(data, choice):
    run = Trained(data, f"task_weights={choice}", max_steps=1, accumulate_grad_batches=2, precision="bf16-mixed")
    assert run.trainer.global_step == 1
    assert len(run.logged.rows) == 2
    assert all(value.isfinite().all() for value in run.module.state_dict().values())


def test_gradient_methods_equal_the_plain_sum_where_their_weights_are_one(data, monkeypatch):
    """One step of PCGrad without conflicts is one of equal weights: clipping and the optimiser see the same."""
    from mtlsi_net.lit import gradient_weighting

    monkeypatch.setattr(gradient_weighting, "shared_gramian", lambda losses, _: torch.eye(len(losses)))
    ours, plain = (Trained(data, f"task_weights={choice}", max_steps=1) for choice in ("pcgrad", "equal"))
    for key, value in plain.module.state_dict().items():
        assert torch.allclose(value, ours.module.state_dict()[key], atol=1e-6), key


def test_float16_is_refused_for_gradient_methods_before_the_first_step(data):
    with pytest.raises(UserError, match="bf16-mixed"):
        Trained(data, "task_weights=pcgrad", precision="16-true")


@pytest.mark.parametrize("choice", ["famo", "pcgrad"])
def test_a_checkpoint_is_evaluated_from_its_file_without_torchjd(data, tmp_path, monkeypatch, choice):
    result = train(compose_config(*short_overrides(data, tmp_path / "run"), f"task_weights={choice}"))
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    ckpt = result.folder.checkpoints / "last.ckpt"
    cfg = compose_config(f"ckpt={ckpt}", f"paths.run_dir={tmp_path / 'again'}", name="evaluate")
    assert evaluate(cfg).skill == pytest.approx(result.skill, abs=1e-5)
