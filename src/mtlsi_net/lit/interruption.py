"""Saving at the moments from which training goes on exactly, and ending there when it is asked to."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from mtlsi_net.utils.errors import INTERRUPTED, UserError

log = logging.getLogger(__name__)

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
REQUEUED = (signal.SIGUSR1, signal.SIGUSR2)
"""With these SLURM announces the end of a job's time; after SIGTERM it queues a preempted job again itself."""

AGREE_EVERY = 10
"""Steps after which several processes ask each other whether to stop."""


class Interrupted(SystemExit):
    """Training has saved and ends; ``code`` is 75 (the same command goes on), or 130 after Ctrl-C."""


class StopRequest:
    """Notes signals and a time limit, for the end of the step.

    Args:
        limit: seconds from now.

    A handler that was there before fitting (submitit's, which queues its job again) is called after saving.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit, self.start = limit, time.monotonic()
        self.signal: signal.Signals | None = None
        self.others = {number: signal.getsignal(number) for number in PREEMPTION}

    def listen(self) -> None:
        """Take the signals over from Lightning, whose handlers would save in the middle of a step; it restores them."""
        if threading.current_thread() is threading.main_thread():
            for number in (*PREEMPTION, signal.SIGINT):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.signal == signal.SIGINT:
                signal.default_int_handler(number, frame)
            log.info("saving after this step; Ctrl-C again ends at once")
        self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        """Return why training shall end, None if it shall not."""
        if self.signal is not None:
            return self.signal.name
        if self.limit is not None and time.monotonic() - self.start >= self.limit:
            return f"time limit of {timedelta(seconds=self.limit)}"
        return None

    def answer(self, main: bool) -> None:
        """Do what the signal is for, after saving; returns only if somebody else's handler wants to go on.

        Args:
            main: whether this is the process that queues a SLURM job again.

        Raises:
            Interrupted: otherwise.
        """
        received, self.signal = self.signal, None
        if received == signal.SIGINT:
            raise Interrupted(128 + signal.SIGINT)
        other = self.others.get(received) if received is not None else None
        if callable(other) and received is not None:
            other(received, None)
            return
        if received in REQUEUED and main and "SLURM_JOB_ID" in os.environ:
            requeue()
        raise Interrupted(INTERRUPTED)


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` where nothing is half done: after an optimiser step and the validation that belongs to it.

    Args:
        path: of the file.
        every: optimiser steps.
        stop: asked after every step.
        how: says how to go on, for the last message.
    """

    def __init__(self, path: Path, every: int, stop: StopRequest, how: str) -> None:
        self.path, self.every, self.stop, self.how = path, every, stop, how
        self._seen = 0
        self._stepped = False
        self._leaving = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Listen, now that Lightning has put its own handlers."""
        self._seen = trainer.global_step
        self.stop.listen()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Save, unless validation follows: a checkpoint from before would go on without it."""
        self._stepped, self._seen = trainer.global_step > self._seen, trainer.global_step
        if not validation_follows(trainer):
            self._step_done(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Leave before another step."""
        self._leave(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Leave before the closing scores."""
        self._leave(trainer)

    def _leave(self, trainer: L.Trainer) -> None:
        if self._leaving:
            self._leaving = False
            self.stop.answer(trainer.is_global_zero)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Save after the validation of a step."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._step_done(trainer)

    def _step_done(self, trainer: L.Trainer) -> None:
        if not self._stepped:  # in the middle of an accumulation
            return
        reason = self.stop.reason()
        if self._agreed(trainer, reason is not None):
            self.save(trainer)
            log.warning("%s: saved at step %d; %s", reason or "another process", trainer.global_step, self.how)
            self._leaving = True  # once Lightning has logged this step
        elif trainer.global_step % self.every == 0:
            self.save(trainer)

    @staticmethod
    def _agreed(trainer: L.Trainer, asked: bool) -> bool:
        """Say whether any process was asked to stop; several ask each other now and then, for that waits for the GPU."""
        if trainer.world_size > 1 and trainer.global_step % AGREE_EVERY:
            return False
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint, after the curves that lead to it."""
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path, weights_only=False)

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: L.LightningModule,  # noqa: ARG002 - Lightning's signature
        checkpoint: dict[str, Any],
    ) -> None:
        """Count the epoch under way: Lightning forgets to, after resuming from an epoch's last batch."""
        for count in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            count["ready"] = count["started"] = count["processed"] + 1


def validation_follows(trainer: L.Trainer) -> bool:
    """Say whether Lightning validates after the batch that has just ended."""
    if not trainer.enable_validation:
        return False
    if trainer.check_val_every_n_epoch is None:
        done = trainer.fit_loop.total_batch_idx + 1
    elif (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:
        return False
    else:
        done = trainer.fit_loop.batch_idx + 1
    return trainer.val_check_batch is not None and done % trainer.val_check_batch == 0


def seconds(text: str | None) -> float | None:
    """Return the seconds of DD:HH:MM:SS.

    Raises:
        UserError: another form.
    """
    if text is None:
        return None
    parts = str(text).split(":")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise UserError(f"trainer.max_time={text} is no time; write it as DD:HH:MM:SS, in quotes")
    days, hours, minutes, rest = map(int, parts)
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds()


def requeue(run: Callable[..., Any] = subprocess.run) -> None:
    """Ask SLURM to queue this job again."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        run(["scontrol", "requeue", job], check=True)
        log.warning("SLURM job %s is queued again", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be queued again (%s)", job, error)
