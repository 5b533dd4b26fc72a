"""Lightning callbacks of the suite."""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn, CustomTimeColumn, ProcessingSpeedColumn
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import ProgressColumn
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mtlsi_net.core.errors import UserError, nearest_names


class StepSeeds(L.Callback):
    """Starts the random streams of every batch anew, as a function of (seed, process, epoch, batch).

    What a step draws (dropout, stochastic depth) then depends neither on what was drawn before it nor on an interruption.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, *hook: Any) -> None:  # noqa: ANN401 - module, batch, its number
        """Seed torch (all devices), numpy and Python."""
        key = np.random.SeedSequence([self.seed, trainer.global_rank, trainer.current_epoch, hook[-1]])
        state = int(key.generate_state(1)[0])
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)


class NormStatistics(L.Callback):
    """Lets batch norms' running statistics be means over some hundred batches: the first N equally, then N by decay.

    With torch's momentum of 0.1 they are those of the last few small batches, which misplaces absolute values (our choice).
    ``constant``: by decay from the start, for a compiled network, which would be compiled anew for every other momentum.
    """

    MOMENTUM = 0.02

    def __init__(self, constant: bool = False) -> None:
        self.constant = constant

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *hook: Any) -> None:  # noqa: ANN401
        """Set the share of this batch, one of perhaps several of its step."""
        each = trainer.accumulate_grad_batches
        batches = trainer.global_step * each + hook[-1] % each  # before this one
        share = self.MOMENTUM if self.constant else max(self.MOMENTUM, 1 / (1 + batches))
        for part in pl_module.modules():
            if isinstance(part, _BatchNorm):
                part.momentum = share


class MonitorCheck(L.Callback):
    """Ends training at its first validation if a callback monitors something that is not logged.

    ``monitors``: the callback's name in ``callbacks`` -> the metric. Comes before the callbacks, which would wait or fail.
    """

    def __init__(self, monitors: Mapping[str, str]) -> None:
        self.monitors = dict(monitors)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Raise a UserError with the names that are near, or known."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics
        for name, monitor in self.monitors.items():
            if monitor not in logged:
                raise UserError(f"callbacks.{name}.monitor={monitor} is not logged; {nearest_names(monitor, logged)}")


class ExponentialAverage(L.Callback):
    """Keeps a running average of the network's weights beside the raw ones; saved with checkpoints.

    Lightning's ``EMAWeightAveraging`` (2.6.6) loses the raw weights at the end of fit, and a checkpoint with
    ``save_weights_only`` then holds other weights than were scored. ``decay`` is per optimiser step (None: no average).
    """

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.average: AveragedModel | None = None
        self._saved: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Start from the current weights, or from the checkpoint's average."""
        network = pl_module.get_submodule("network")
        assert self.decay is not None, "a run without an average has no such callback"
        averaging = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call] # torch ships it untyped
        self.average = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
        if self._saved is not None:
            self.average.load_state_dict(self._saved)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Update after every optimiser step."""
        assert self.average is not None
        if trainer.global_step > int(self.average.n_averaged):
            self.average.update_parameters(pl_module.get_submodule("network"))

    def state_dict(self) -> dict[str, Any]:
        """Return the average for the checkpoint."""
        return {} if self.average is None else {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the checkpoint's average until the network exists."""
        self._saved = state_dict.get("average")

    def swapped_in(self, network: nn.Module) -> AbstractContextManager[None]:
        """Give ``network`` the averaged weights inside the context."""
        assert self.average is not None, "the average exists after fit"
        return other_weights(network, self.average.module.state_dict())


@contextmanager
def other_weights(module: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give a module other weights inside the context."""
    own = {key: value.clone() for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    try:
        yield
    finally:
        module.load_state_dict(own)


class CountColumn(ProgressColumn):
    """Column ``step 300/750`` or ``validation 12/40``; without the total where that is not known."""

    def render(self, task: RichTask) -> Text:
        """Return the text for one bar."""
        total = f"/{int(task.total)}" if task.total is not None and math.isfinite(task.total) else ""
        return Text(f"{task.description} {int(task.completed)}{total}")


class ProgressBar(RichProgressBar):
    """RichProgressBar that counts optimiser steps over the whole training, on one line of 80 columns.

    It reads losses from a GPU every ``every`` steps (0: never), to avoid waiting for it each step.
    """

    def __init__(self, every: int) -> None:
        super().__init__(leave=False)
        self.every = every
        self._read_at = -1
        self._shown: dict[str, Any] = {}

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar: ``loss`` for ``train/loss``."""
        step = trainer.global_step
        due = self.every > 0 and step % self.every == 0 and step != self._read_at
        if due or not trainer.training or pl_module.device.type == "cpu":
            logged = super().get_metrics(trainer, pl_module)
            logged.pop("v_num", None)
            self._shown, self._read_at = {name.rpartition("/")[2]: value for name, value in logged.items()}, step
        return self._shown

    @property
    def total_train_batches(self) -> int | float:
        """Number of optimiser steps of the whole training; infinite if only time or a callback ends it."""
        return self.trainer.estimated_stepping_batches

    @property
    def validation_description(self) -> str:
        """Word before the count of batches: ``validation`` during training, else ``scoring``."""
        return "validation" if self.trainer.state.fn == TrainerFn.FITTING else "scoring"

    def _get_train_description(self, current_epoch: int) -> str:  # noqa: ARG002 - Lightning's signature
        return "step"

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the bar at the first epoch; later ones continue it."""
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the step's
        batch: Any,  # noqa: ANN401
        batch_idx: int,  # noqa: ARG002 - micro-batches of one epoch are not what the bar counts
    ) -> None:
        """Show the number of optimiser steps so far."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, trainer.global_step - 1)

    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:  # noqa: ARG002 - Lightning's signature
        """Return the columns before that of the metrics; only the bar gives way if the terminal is narrow."""
        count, speed, time = CountColumn(_line()), ProcessingSpeedColumn(""), CustomTimeColumn("dim")
        bar = CustomBarColumn(bar_width=None, table_column=Column(max_width=40))
        speed._table_column, time._table_column = _line(), _line()  # Lightning's columns take none
        return [count, bar, time, speed]

    def _init_progress(self, trainer: L.Trainer) -> None:
        super()._init_progress(trainer)
        if self._metric_component is not None:
            self._metric_component._table_column = _line()


def _line() -> Column:
    """Return a table column that cuts its text off rather than to wrap it."""
    return Column(no_wrap=True, overflow="ellipsis")
