"""The running average of weights, and why it is not Lightning's; the progress bar."""

import io
import re
from types import SimpleNamespace

import lightning as L
import pytest
import rich
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from mtlsi_net.lit.callbacks import ExponentialAverage, NormStatistics, ProgressBar

DECAY, STEPS = 0.5, 3


class Toy(L.LightningModule):
    """One weight, 0 at first, that grows by 1 each step; validation scores it by its value."""

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.scored = []

    @property
    def value(self):
        return self.network.weight.item()

    def training_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
        return -self.network.weight.sum()

    def validation_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
        self.scored.append(self.value)
        self.log("score", self.value)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, average):
    """Return the module after three steps, and the weight in the checkpoint of its last validation."""
    module = Toy()
    keeper = ModelCheckpoint(folder, monitor="score", mode="max", save_weights_only=True)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        num_sanity_val_steps=0,
        callbacks=[average, keeper],
        **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False),
    )
    trainer.fit(module, DataLoader(torch.zeros(STEPS)), DataLoader(torch.zeros(1)))
    saved = torch.load(keeper.best_model_path, weights_only=True)["state_dict"]
    return module, saved["network.weight"].item()


def test_raw_weights_are_trained_scored_and_saved_beside_their_average(tmp_path):
    average = ExponentialAverage(DECAY)
    module, saved = fit(tmp_path, average)
    assert (module.value, module.scored, saved) == (3.0, [3.0], 3.0)
    with average.swapped_in(module.network):
        assert module.value == pytest.approx(0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3)  # the first step starts the average
    assert module.value == 3.0


def test_lightnings_own_average_replaces_the_raw_weights_at_the_end(tmp_path):
    module, _ = fit(tmp_path, EMAWeightAveraging(decay=DECAY))
    assert module.value < 3.0, "raw weights survive now: Lightning's callback may replace ExponentialAverage"


def test_a_checkpoint_of_weights_beside_lightnings_average_has_others_than_were_scored(tmp_path):
    module, saved = fit(tmp_path, EMAWeightAveraging(decay=DECAY))
    assert saved != module.scored[-1], (
        "scored weights are saved now: Lightning's callback may replace ExponentialAverage"
    )


@pytest.mark.parametrize("each", [1, 2])
def test_batch_norms_statistics_are_means_over_many_batches(each):
    class Normed(Toy):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.BatchNorm1d(1)

        def training_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
            return self.network(batch).square().sum()

    module, means = Normed(), torch.randn(70, dtype=torch.float64).float()
    batches = means[:, None] + torch.tensor([-1.0, 1.0])  # of two values, with these means
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=len(means) // each,
        accumulate_grad_batches=each,
        callbacks=[NormStatistics()],
        **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False),
    )
    trainer.fit(module, DataLoader(batches.reshape(-1, 1), batch_size=2))
    expected = means[:50].mean()
    for mean in means[50:]:
        expected = 0.98 * expected + 0.02 * mean
    torch.testing.assert_close(module.network.running_mean[0], expected)


def test_a_compiled_networks_batch_norms_keep_one_momentum():
    norm, shares = torch.nn.BatchNorm1d(1), []
    trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=0)
    for batch in range(3):
        trainer.global_step = batch
        NormStatistics(constant=True).on_train_batch_start(trainer, norm, None, batch)
        shares.append(norm.momentum)
    assert shares == [NormStatistics.MOMENTUM] * 3


class Talkative(Toy):
    """Logs as a run does: a loss each step, a score each validation, all of them to the bar."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", 209.3761 + loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
        self.log("val/skill", self.value, prog_bar=True)


def bar_lines(width, **options):
    """Return what the bar shows of a training on a terminal of that width, one entry for each line drawn."""
    bar, screen = ProgressBar(every=1), io.StringIO()
    bar._console_kwargs = {"file": screen, "width": width, "force_terminal": True}
    trainer = L.Trainer(
        accelerator="cpu",
        val_check_interval=4,
        num_sanity_val_steps=0,
        callbacks=[bar],
        **{"max_epochs": -1, "check_val_every_n_epoch": None, **options},
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False),
    )
    try:
        trainer.fit(Talkative(), DataLoader(torch.zeros(4)), DataLoader(torch.zeros(2)))
    finally:
        rich.reconfigure()  # Lightning's bar changes rich's console for the whole process
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_the_bar_counts_steps_over_all_epochs():
    lines = bar_lines(120, max_steps=7, accumulate_grad_batches=2)  # 2 steps an epoch
    shown = [re.match(r"step (\d+)/7 ", line) for line in lines]
    counts = [int(match[1]) for match in shown if match]
    assert counts == sorted(counts)
    assert counts[-1] == 7
    assert not any("poch" in line or "v_num" in line for line in lines)
    assert "loss: 203" in lines[-1]  # 209.4 - 6 steps of the weight
    assert "skill: 6" in lines[-1]


def test_the_bar_of_a_training_without_a_last_step_counts_too():
    lines = bar_lines(80, max_steps=-1, max_time={"seconds": 1})
    assert any(re.match(r"step [1-9]\d* ", line) for line in lines)


@pytest.mark.parametrize("width", [80, 68])
def test_the_bar_takes_one_line(width):
    lines = bar_lines(width, max_steps=6, limit_val_batches=2)
    assert all(re.match(r"(step|validation) \d+/\d+ ", line) for line in lines)  # what wraps would start otherwise
    assert max(map(len, lines)) <= width
    assert "loss: 20" in lines[-1]
