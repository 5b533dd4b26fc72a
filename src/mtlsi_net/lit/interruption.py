"""Checkpoints from which training resumes exactly, and the handling of signals and time limits that end it early."""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from mtlsi_net.core import signals
from mtlsi_net.core.errors import INTERRUPTED, UserError
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.signals import Interrupted

log = logging.getLogger(__name__)

REQUEUED = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent by SLURM before a job's time is up; after SIGTERM it requeues a preempted job itself."""

SYNC_EVERY = 10
"""Steps on GPUs between two checks of whether any of several ranks was told to stop; on CPUs every step checks."""


class StopRequest:
    """A signal or an expired time ``limit`` (seconds from now), acted on at the end of a step.

    A handler that was installed before (submitit's, which requeues its job) is called after saving.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit, self.start = limit, time.monotonic()
        self._stack = ExitStack()
        self._listener: signals.Listener | None = None

    def listen(self) -> None:
        """Let signals wait for the end of a step."""
        if self._listener is None:
            self._listener = self._stack.enter_context(signals.listening(INTERRUPTED))
        self._listener.leave()  # by a signal that came where no exception passes
        self._listener.deferred = True

    def close(self) -> None:
        """Stop listening, unless the whole command does."""
        self._stack.close()
        self._listener = None

    def reason(self) -> str | None:
        """Return why training has to stop, None if it does not."""
        if self._listener is not None and self._listener.signal is not None:
            return self._listener.signal.name
        if self.limit is not None and time.monotonic() - self.start >= self.limit:
            return f"time limit of {timedelta(seconds=self.limit)}"
        return None

    def exit(self, requeues: bool) -> None:
        """End training after saving; returns only if an earlier handler of the signal does.

        ``requeues``: this rank requeues a SLURM job.
        """
        listener = self._listener
        try:
            if listener is not None and listener.signal is not None:
                if listener.handler(listener.signal) is None and requeues:
                    requeue_after(listener.signal)
                listener.leave()
                return
            raise Interrupted(INTERRUPTED)
        except Interrupted as ended:
            ended.told = True
            raise


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """End training by a signal with exit code 75 (130 after Ctrl-C), after saying what is ``kept``.

    Signals end it at once, but wait while ``LastCheckpoint`` trains.
    """
    with signals.listening(INTERRUPTED) as listener:
        try:
            yield
        except Interrupted as ended:
            if listener.signal is not None and not ended.told:
                log.warning("%s: stopped. %s", listener.signal.name, kept())
                if is_rank_zero():
                    requeue_after(listener.signal)
                ended.told = True
            raise
        finally:
            listener.deferred = False


def stop_waiting() -> None:
    """Act on signals at once again; on one that came since the last step, now."""
    listener = signals.active()
    if listener is not None:
        listener.deferred = False
        listener.leave()


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` between steps: after an optimiser step and the validation that belongs to it.

    ``every``: optimiser steps between two; the last step has one too. ``max_time`` (DD:HH:MM:SS, from now) and signals end
    training after a step; ``how``: the instruction for resuming. ``saved_at``: the step of the last checkpoint, -1 without.
    """

    def __init__(
        self, path: str | Path, every: int, max_time: str | None = None, how: str = "resume with ckpt=last"
    ) -> None:
        self.path, self.every, self.how = Path(path), every, how
        self.stop = StopRequest(seconds(max_time))
        self.saved_at = -1
        self._step = 0
        self._stepped = False
        self._leaving = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Listen for signals."""
        self._step = trainer.global_step
        self.stop.listen()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's
        """Stop listening, after training."""
        self.stop.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:  # noqa: ARG002 - Lightning's
        """Stop listening, after an error."""
        self.stop.close()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Exit before another step, after Lightning has logged the last one."""
        if self._leaving:
            self._leaving = False
            self.stop.exit(trainer.is_global_zero)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exit before the final scores."""
        self.on_train_batch_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Save, unless validation follows: a run resumed from here would skip it."""
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type] # None before fitting only
            self._after_step(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Save after the validation of a step."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._after_step(trainer)

    def _after_step(self, trainer: L.Trainer) -> None:
        if not self._stepped:  # in the middle of an accumulation
            return
        reason, step = self.stop.reason(), trainer.global_step
        on_cpu = trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu"
        if on_cpu or step % SYNC_EVERY == 0:  # asking other ranks waits for the GPU
            self._leaving = trainer.strategy.reduce_boolean_decision(reason is not None, all=False)
        if self._leaving or step % self.every == 0 or ends(trainer):
            for logger in trainer.loggers:  # the curves that lead to the checkpoint come first
                logger.save()
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved_at = step
        if self._leaving:
            log.warning("%s: saved at step %d; %s", reason or "another rank", step, self.how)

    def on_save_checkpoint(self, *hook: Any) -> None:  # noqa: ANN401 - trainer, module, checkpoint
        """Count the current epoch: Lightning 2.6.6 does not, once it has resumed from the last batch of an epoch.

        Saving at any other moment is no way out: from the end or start of an epoch Lightning resumes in the old epoch.
        """
        for count in hook[-1]["loops"]["fit_loop"]["epoch_progress"].values():
            count["ready"] = count["started"] = count["processed"] + 1


def ends(trainer: L.Trainer) -> bool:
    """Return whether training ends after the step just taken; a checkpoint of it, unlike one after fitting, resumes exactly."""
    loop = trainer.fit_loop
    last_batch = loop.epoch_loop.batch_progress.is_last_batch
    last_epoch = (trainer.max_epochs or -1) > 0 and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    stopped = trainer.should_stop and loop._can_stop_early
    return stopped or trainer.global_step == trainer.max_steps or (last_batch and last_epoch)


def seconds(text: str | None) -> float | None:
    """Return the seconds of DD:HH:MM:SS; a UserError for another form."""
    if text is None:
        return None
    form = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", str(text))
    if form is None:
        raise UserError(f"max_time={text} is not a time; write it as DD:HH:MM:SS, in quotes")
    days, hours, minutes, rest = map(int, form.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds()


def requeue_after(number: int) -> None:
    """Requeue this SLURM job after a signal that SLURM does not requeue it for."""
    if number in REQUEUED and "SLURM_JOB_ID" in os.environ:
        requeue()


def requeue(run: Callable[..., Any] = subprocess.run) -> None:
    """Ask SLURM to requeue this job."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        run(["scontrol", "requeue", job], check=True)
        log.warning("SLURM job %s is requeued", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be requeued (%s)", job, error)
