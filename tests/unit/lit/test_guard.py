"""Losses and gradients that are not finite."""

import copy

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from torch import nn

from mtlsi_net.lit.guard import MOST_IN_A_ROW, NonFiniteGuard
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.training import train
from mtlsi_net.utils.errors import UserError


def step(network, optimizer, guard, x):
    """Take a step as the module does; return whether it was taken."""
    guard.begin(network)
    optimizer.zero_grad()
    network(x).square().mean().backward()
    parameters = list(network.parameters())
    norm = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
    taken = guard.check(0, norm, network, parameters)
    optimizer.step()
    return taken


def toy():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def test_a_skipped_step_changes_neither_weights_nor_optimiser_nor_statistics():
    network, optimizer = toy()
    guard = NonFiniteGuard("skip")
    assert step(network, optimizer, guard, torch.randn(8, 4))
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    bad = torch.randn(8, 4)
    bad[3, 1] = float("nan")
    assert not step(network, optimizer, guard, bad)
    assert guard.skipped == 1
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    for key, values in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[key][name]) for name, value in values.items())
    assert step(network, optimizer, guard, torch.randn(8, 4))
    assert not torch.equal(network[0].weight, weights["0.weight"])


def test_skipping_ends_when_it_never_stops():
    network, optimizer = toy()
    guard = NonFiniteGuard("skip")
    bad = torch.full((8, 4), float("inf"))
    for _ in range(MOST_IN_A_ROW):
        assert not step(network, optimizer, guard, bad)
    with pytest.raises(
        UserError, match=rf"gradient is not finite at step 0 {MOST_IN_A_ROW + 1} times in a row \(first in 0.weight\)"
    ):
        step(network, optimizer, guard, bad)


def test_stopping_is_the_default_and_other_words_are_refused():
    network, optimizer = toy()
    with pytest.raises(UserError, match=r"gradient is not finite at step 0 .first in 0.weight"):
        step(network, optimizer, NonFiniteGuard(), torch.full((8, 4), float("nan")))
    with pytest.raises(UserError, match=r"non_finite=ignore is not known"):
        NonFiniteGuard("ignore")


def test_a_run_goes_on_after_a_bad_batch_and_counts_it(tmp_path, monkeypatch, caplog):
    honest = MultiTaskModule.training_step

    def breaks_once(self, batch, batch_idx):
        if self.global_step == 1:
            batch["image"] = torch.full_like(batch["image"], float("nan"))
        return honest(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", breaks_once)
    data = write_miniature(tmp_path / "data")
    options = ("trainer.log_every_n_steps=1", "logger=csv", "task_weights=dwa")
    cfg = compose_config(*short_overrides(data, tmp_path / "run", steps=3), *options, "non_finite=skip")
    with caplog.at_level("WARNING"):
        result = train(cfg)
    assert result.gain == result.gain
    assert "loss is not finite at step 1: " in caplog.text
    assert "; the step is skipped" in caplog.text
    columns = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    position = columns[0].split(",").index("train/skipped_steps")
    assert [float(v) for line in columns[1:] if (v := line.split(",")[position])] == [0, 1, 1]
