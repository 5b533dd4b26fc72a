"""Runs that end before their end, and what is the same when they go on."""

import json

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.io import read_history
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.train import train
from mtlsi_net.lit.module import MultiTaskModule

STEPS = 7
OPTIONS = (
    "data.augment=true",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=3",
    "checkpoint_every=1",
    "optim.ema_decay=0.9",
    "logger=csv",
)


class Killed(BaseException):
    """What nobody handles."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5)  # two batches an epoch


def job(data, folder, *options):
    return compose_config(*short_overrides(data, folder, steps=STEPS), *OPTIONS, *options)


def history(folder):
    """Return (step, column) -> value of everything logged but the learning rate's timing columns."""
    rows = read_history(folder / "metrics.csv")
    return {(row["step"], key): value for row in rows for key, value in row.items()}


def killed_at(step, monkeypatch):
    honest = MultiTaskModule.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == step:
            raise Killed
        return honest(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", dies)


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_run(ours, theirs):
    assert history(ours) == history(theirs)
    a, b = weights(ours), weights(theirs)
    assert all(torch.equal(a["state_dict"][key], value) for key, value in b["state_dict"].items())
    average, other = (x["callbacks"]["ExponentialAverage"]["average"] for x in (a, b))
    assert all(torch.equal(average[key], value) for key, value in other.items())
    scores, others = (json.loads((folder / "metrics.json").read_text()) for folder in (ours, theirs))
    assert scores == others


CASES = {
    "stochastic depth, uncertainty": [
        "backbone.name=resnet18",
        "backbone.drop_path_rate=0.3",
        "task_weights=uncertainty",
    ],
    "famo, a worker": ["task_weights=famo", "data.num_workers=1"],
    "checkpoints apart": ["checkpoint_every=2"],
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if "worker" in case else pytest.mark.slow) for case in CASES]
)
def test_a_run_killed_again_and_again_is_the_uninterrupted_one(data, tmp_path, monkeypatch, case):
    train(job(data, tmp_path / "whole", *CASES[case]))
    for step in (2, 3, 5, 6):  # an epoch's end, a validation, inside an epoch, both
        with monkeypatch.context() as patch:
            killed_at(step, patch)
            with pytest.raises(Killed):
                run_job(job(data, tmp_path / "cut", *CASES[case]))
    run_job(job(data, tmp_path / "cut", *CASES[case]))
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()} == {"last.ckpt", "best_on_test.ckpt"}
