"""Losses and gradients that are not finite."""

import copy
import math

import pytest
import torch
from helpers.commands import context
from helpers.miniature import compose_config, short_overrides, write_miniature
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.train import train
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.non_finite import MOST_IN_A_ROW, MOST_SCALED, NonFiniteGuard


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


def small_step(guard, loss, norm, ids=("a", "b"), scaled=False):
    """Show the guard a micro-batch's loss and a gradient of some norm; return whether it takes the step."""
    guard.begin(nn.Linear(1, 1))
    guard.see({"depth": torch.tensor(1.0)}, torch.tensor(1.0), ["fine"])
    guard.see({"depth": torch.tensor(loss)}, torch.tensor(loss), ids)
    return guard.check(3, torch.tensor(norm), nn.Linear(1, 1), [], scaled=scaled)


@pytest.mark.parametrize(
    ("norm", "scaled", "taken", "fate"),
    [
        (1.0, False, True, "its gradient is finite, the step is taken"),
        (math.nan, False, False, "the step is skipped"),
        (1.0, True, True, "its gradient is finite, the step is taken"),
        (math.nan, True, False, "the step is skipped"),
    ],
)
def test_the_gradient_decides_about_a_step_and_the_loss_is_told(norm, scaled, taken, fate, caplog):
    guard = NonFiniteGuard("skip")
    assert small_step(guard, math.inf, norm, scaled=scaled) == taken
    assert caplog.messages == [f"loss is not finite at step 3: depth = inf; images a, b; {fate}"]
    assert guard.skipped == (not taken)
    with pytest.raises(UserError, match=r"step 3: depth = inf; images a, b\. Training stopped"):
        small_step(NonFiniteGuard(), math.inf, norm, scaled=scaled)


def test_float16s_scaler_may_skip_steps_but_not_for_ever():
    for mode in ("stop", "skip"):
        guard = NonFiniteGuard(mode)
        for _ in range(MOST_SCALED):
            assert not small_step(guard, 1.0, math.inf, scaled=True)
        assert guard.skipped == MOST_SCALED
        with pytest.raises(UserError, match=rf"gradient is not finite at step 3 {MOST_SCALED + 1} times in a row"):
            small_step(guard, 1.0, math.inf, scaled=True)


def test_a_scaled_step_keeps_its_gradients_for_the_scaler_and_the_statistics_of_before():
    network, optimizer = toy()
    guard = NonFiniteGuard("skip")
    before = {name: own.clone() for name, own in network.named_buffers()}
    guard.begin(network)
    network(torch.full((8, 4), float("inf"))).sum().backward()
    assert not guard.check(0, torch.tensor(math.nan), network, network.parameters(), scaled=True)
    assert all(torch.equal(own, before[name]) for name, own in network.named_buffers())
    assert all(parameter.grad is not None for parameter in network.parameters())
    del optimizer


def test_a_step_that_is_taken_ends_the_row_of_skipped_ones():
    guard = NonFiniteGuard("skip")
    for _ in range(3):
        for _ in range(MOST_IN_A_ROW // 2):
            assert not small_step(guard, 1.0, math.nan)
        assert small_step(guard, math.inf, 1.0)
    assert guard.in_a_row == 0


def _stop(rank, file, out):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    try:
        small_step(NonFiniteGuard(), math.nan if rank == 1 else 1.0, math.nan, ids=["torn"])
    except UserError as error:
        (out / f"{rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


def test_all_processes_name_the_images_of_one(tmp_path):
    context()
    torch.multiprocessing.start_processes(_stop, (tmp_path / "store", tmp_path), 2, start_method="forkserver")
    told = [(tmp_path / f"{rank}").read_text() for rank in range(2)]
    assert told[0] == told[1]
    assert told[0].startswith("loss is not finite at step 3: depth = nan; images torn. Training stopped")


def test_a_run_goes_on_after_a_bad_batch_and_counts_it(tmp_path, monkeypatch, caplog):
    honest = MultiTaskModule.training_step

    def breaks_once(self, batch, batch_idx):
        if self.global_step == 1:
            batch["image"].fill_(float("nan"))
        return honest(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", breaks_once)
    data = write_miniature(tmp_path / "data")
    options = ("trainer.log_every_n_steps=1", "logger=csv", "task_weights=dwa")
    cfg = compose_config(*short_overrides(data, tmp_path / "run", steps=3), *options, "non_finite=skip")
    with caplog.at_level("WARNING"):
        result = train(cfg)
    assert result.skill == result.skill
    assert "loss is not finite at step 1: " in caplog.text
    assert "; the step is skipped" in caplog.text
    columns = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    position = columns[0].split(",").index("train/skipped_steps")
    assert [float(v) for line in columns[1:] if (v := line.split(",")[position])] == [0, 1, 1]
