"""Callback for runs that start from another run: the record of it, and the schedule of an extended run."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim.lr_scheduler import LambdaLR

from mtlsi_net.core.errors import UserError

log = logging.getLogger(__name__)


class Origin(L.Callback):
    """Keeps the record of where a run's weights come from, and lays an extended run's schedule over its new length.

    Args:
        record: of a new run: ``init_from`` or ``extends`` -> a description; part of checkpoints, so that a resumed run
            keeps it.

    Raises:
        UserError: an extended run has nothing left to train.
    """

    def __init__(self, record: Mapping[str, Any] | None = None) -> None:
        self.record = dict(record or {})
        self._extends = "extends" in self.record

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002 - Lightning's signature
        checkpoint: dict[str, Any],
    ) -> None:
        """Take over the checkpoint's record; an early stopping of an extended run waits anew, as configured today."""
        self.record = {**checkpoint.get("origin", {}), **self.record}
        if not self._extends:
            return
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, EarlyStopping) and callback.state_key in checkpoint["callbacks"]:
                checkpoint["callbacks"][callback.state_key] |= {"wait_count": 0, "patience": callback.patience}

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Keep the record."""
        checkpoint["origin"] = self.record

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Let the learning rates be those of the new schedule at once; say in one line how they jump."""
        if not self._extends:
            return
        step, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        parent = self.record["extends"]["run"]
        if steps <= step:
            raise UserError(
                f"{parent} is at step {step} already, and these settings end at step {steps}: set trainer.max_steps (or "
                "max_epochs) beyond it"
            )
        before, after = lay_schedules(trainer)
        self.record["extends"] |= {"steps": steps, "learning_rate": [before, after]}
        if trainer.is_global_zero:
            log.info(
                "extending %s from step %d to %d: the learning rate goes from %.3g to %.3g, the schedule's over %d steps",
                *(parent, step, steps, before, after, steps),
            )


def lay_schedules(trainer: L.Trainer) -> tuple[float, float]:
    """Set the learning rates to what today's schedules say of the current step; return the largest before and after.

    A restored optimiser has the rates of the schedule it was saved with until the end of the next step.
    """
    rates: list[tuple[float, float]] = []
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    for scheduler in (each for each in schedulers if isinstance(each, LambdaLR)):
        groups = scheduler.optimizer.param_groups
        new = [
            float(base) * factor(scheduler.last_epoch)
            for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        rates += [(float(group["lr"]), lr) for group, lr in zip(groups, new, strict=True)]
        for group, lr in zip(groups, new, strict=True):
            group["lr"] = lr
        scheduler._last_lr = list(new)
    return max((before for before, _ in rates), default=0.0), max((after for _, after in rates), default=0.0)
