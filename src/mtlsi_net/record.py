"""What a run's record says beside how it was run: which data, protocol and metrics its scores come from."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.tasks.base import Task
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import describe_run
from mtlsi_net.verification.digests import describe_data

log = logging.getLogger(__name__)

PROTOCOL = "1"
"""Counts up whenever the same files and the same raw outputs would score otherwise than before: a change to how labels
are decoded or marked invalid, to padding or resizing at test time, to post-processing, or to a metric's definition that
its task's ``variant`` does not show. Not for new metrics, nor for anything about training."""


def describe_scores(
    run: DictConfig,
    data: MultiTaskDataModule,
    tasks: Mapping[str, Task],
    seconds: Mapping[str, float],
    command: str | None = None,
) -> dict[str, Any]:
    """Return all that a result must carry to be repeated, and to be compared with others.

    Args:
        run: the run's configuration; its ``seed`` and ``paths`` are read.
        data: what was scored.
        tasks: name -> Task.
        seconds: durations by name.
        command: that repeats the run; None: this process's own.
    """
    return describe_run(run.seed, seconds, command) | {
        "protocol": PROTOCOL,
        "metrics": {name: task.variant() for name, task in tasks.items()},
        "main": {
            name: {"metric": task.main_metric, "higher_is_better": task.higher_is_better}
            for name, task in tasks.items()
        },
        "data": _describe(data, digest_cache(run)),
    }


def digest_cache(cfg: DictConfig) -> Path:
    """Return the folder that digests of data files are kept in."""
    return Path(cfg.paths.output_dir) / "cache" / "digests"


def _describe(data: MultiTaskDataModule, cache: Path) -> dict[str, Any]:
    facts = {"root": str(data.root), "name": data.official, "stage": data.val_stage, "scale": data.scale}
    try:
        return facts | describe_data(data.make_reader(data.targets), cache)
    except (OSError, UserError) as error:  # at the end of a run: its scores must not be lost for this
        log.warning("%s: the record goes without digests of the data (%s)", data.root, error)
        return facts | {"manifest_sha256": None}
