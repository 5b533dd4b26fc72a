"""Progress of training, in a terminal."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, which on a GPU reads losses as often as they are logged alone: the processor has to wait for them.

    Args:
        every: steps between two logged ones.
    """

    def __init__(self, every: int) -> None:
        super().__init__(leave=False)
        self.every = max(1, every)
        self._shown: dict[str, Any] = {}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar."""
        logged = trainer.global_step % self.every == 0
        if logged or not trainer.training or pl_module.device.type == "cpu":
            self._shown = super().get_metrics(trainer, pl_module)
        return self._shown
