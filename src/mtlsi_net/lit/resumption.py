"""Callback for resumed runs: it fits a checkpoint to today's micro-batches and run folder, and records changed settings."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.resolvers import best_precision
from mtlsi_net.core.settings import Effect, differing_settings

log = logging.getLogger(__name__)


class Resumption(L.Callback):
    """Makes a checkpoint fit a run with other devices or micro-batches, and keeps a record of every resumption.

    ``record``: one entry for each time the run was resumed, ``{"step": ..., "changed": {setting: [old, new]}}``; changed are
    the settings of the effect ``continues``. The record is part of the checkpoint, so what a killed process trained
    after its last checkpoint, and under which settings, does not count.
    """

    def __init__(self) -> None:
        self.record: list[dict[str, Any]] = []

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Convert counters and paths; log the changed settings in one line and record them."""
        step = int(checkpoint["global_step"])
        count_micro_batches(checkpoint, trainer.accumulate_grad_batches)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in checkpoint["callbacks"]:
                relocate_best(checkpoint["callbacks"][callback.state_key], Path(os.fspath(callback.dirpath or "")))
        old, new = modernize(checkpoint.get("config")), getattr(pl_module, "config", None)
        stored = (old or {}).get("trainer", {})
        if stored.get("precision") == "auto":  # of earlier versions
            stored["precision"] = best_precision(str(stored.get("accelerator")))
        changed = differing_settings(old, new, Effect.CONTINUES) if old and new else {}
        self.record = [
            *checkpoint.get("resumed", []),
            {"step": step, "changed": {k: list(v) for k, v in changed.items()}},
        ]
        if changed and trainer.is_global_zero:
            told = ", ".join(f"{key} {_text(was)} -> {_text(now)}" for key, (was, now) in changed.items())
            log.warning("resuming at step %d with other settings, not bit-exact: %s", step, told)

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Keep the record."""
        checkpoint["resumed"] = self.record


def count_micro_batches(checkpoint: Mapping[str, Any], micro_batches: int) -> None:
    """Let a checkpoint count batches as if each step had taken so many micro-batches; steps and epochs stay.

    Lightning (2.6.6) counts micro-batches and not steps, and finds its place in the epoch, the next optimiser step and the
    next validation by that count. Checkpoints are written between steps, so the count is a multiple of the steps.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    before = progress["total"]["ready"] // int(checkpoint["global_step"])
    for counts in (progress["total"], progress["current"]):
        ready = counts["ready"] // before * micro_batches
        counts |= {name: ready - (counts["ready"] - count) for name, count in counts.items()}


def relocate_best(state: dict[str, Any], folder: Path) -> None:
    """Let the state of a ``ModelCheckpoint`` find its files in ``folder``, where the run was moved with them.

    Lightning (2.6.6) forgets the best score so far if the folder has another name.
    """
    best = state["best_model_path"]
    if state["dirpath"] == str(folder) or (best and not (folder / Path(best).name).is_file()):
        return

    def moved(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    paths = {key: moved(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
    scores = {moved(path): score for path, score in state["best_k_models"].items()}
    state |= paths | {"dirpath": str(folder), "best_k_models": scores}


def _text(value: Any) -> str:  # noqa: ANN401 - any setting
    return "null" if value is None else str(value)
