"""Checkpoints between steps, on a module of one weight: what a resumed run sees."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from mtlsi_net.lit.interruption import LastCheckpoint


class Killed(BaseException):
    """An exception that nobody handles."""


class Numbers(DataLoader):
    """Batches 0, 1, 2 ..., a position that checkpoints keep."""

    def __init__(self, batches):
        super().__init__(torch.zeros(batches))
        self.given = 0

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]

    def __iter__(self):
        for _ in range(self.given % len(self), len(self)):
            self.given += 1
            yield torch.tensor([self.given - 1.0])


class Toy(L.LightningModule):
    """Notes epoch, batch and sample of every step, and validations."""

    def __init__(self, dies_at):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen, self.dies_at = [], dies_at

    def training_step(self, batch, batch_idx):
        if self.global_step == self.dies_at:
            raise Killed
        self.seen.append((self.global_step, self.current_epoch, batch_idx, batch.item()))
        return (self.weight * batch).sum()

    def validation_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
        self.seen.append(("validation", self.global_step, self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def fit(path, every, validate_every, dies_at=None, callback=LastCheckpoint):
    module = Toy(dies_at)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=9,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[callback(path, every)],
        **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False),
    )
    try:
        trainer.fit(module, Numbers(2), DataLoader(torch.zeros(1)), ckpt_path=path if path.is_file() else None)
    except Killed:
        assert dies_at is not None
    return module.seen


def killed_and_resumed(path, whole, **options):
    """Return whether every part of a run that is killed at six steps is a part of the whole run, the last its end."""
    parts = [fit(path, dies_at=step, **options) for step in (2, 3, 4, 5, 6, 8)]
    last = fit(path, **options)
    return all(set(part) <= set(whole) for part in parts) and last == whole[-len(last) :]


@pytest.mark.parametrize(("every", "validate_every"), [(1, 3), (2, 3), (3, 4)])
def test_a_resumed_run_counts_epochs_batches_and_validations_as_if_never_killed(tmp_path, every, validate_every):
    whole = fit(tmp_path / "whole.ckpt", 100, validate_every)
    assert len(whole) == 9 + 9 // validate_every
    assert killed_and_resumed(tmp_path / "last.ckpt", whole, every=every, validate_every=validate_every)


class Unedited(LastCheckpoint):
    """Leaves Lightning's count of epochs alone."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        pass


def test_lightning_still_needs_the_epoch_counted_for_it(tmp_path):
    whole = fit(tmp_path / "whole.ckpt", 100, 3)
    options = {"every": 2, "validate_every": 3}
    still = "Lightning counts right now: delete LastCheckpoint.on_save_checkpoint"
    assert not killed_and_resumed(tmp_path / "last.ckpt", whole, **options, callback=Unedited), still
