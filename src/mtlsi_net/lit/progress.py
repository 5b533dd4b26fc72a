"""Progress of training, in a terminal."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, which reads losses from a GPU only as often as they are logged: the processor has to wait for them.

    Args:
        every: steps between two logged ones; 0 is none.
    """

    def __init__(self, every: int) -> None:
        super().__init__(leave=False)
        self.every = every
        self._read_at = -1
        self._shown: dict[str, Any] = {}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar."""
        step = trainer.global_step
        due = self.every > 0 and step % self.every == 0 and step != self._read_at
        if due or not trainer.training or pl_module.device.type == "cpu":
            self._shown, self._read_at = super().get_metrics(trainer, pl_module), step
        return self._shown
