"""The record of a run, ``run.json``: command, commit, versions and hardware; data, protocol and metrics of its scores."""

import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import process_info
from mtlsi_net.data.digests import describe_data
from mtlsi_net.data.prepared import read_prepared

if TYPE_CHECKING:  # commands that score nothing write a record too
    from mtlsi_net.data.datamodule import MultiTaskDataModule
    from mtlsi_net.tasks.base import Task

log = logging.getLogger(__name__)

PROTOCOL = "1"
"""Counts up whenever the same files and the same raw outputs would score otherwise than before: a change to how labels
are decoded or marked invalid, to padding or resizing at test time, to post-processing, or to a metric's definition that
its task's ``variant`` does not show. Not for new metrics, nor for anything about training."""


PACKAGES = (
    *("mtlsi-net", "torch", "torchvision", "lightning", "torchmetrics", "timm"),
    *("hydra-core", "numpy", "opencv-python-headless"),
)


def describe_run(seed: int | None, durations: Mapping[str, float], command: str | None = None) -> dict[str, Any]:
    """Return what a result must carry to be repeated: command, commit, seed, versions, hardware, durations in seconds.

    ``seed`` is None where nothing was drawn, or nothing is known of it. ``command`` replaces this process's own.
    """
    return {
        "command": command or shlex.join(["python", *sys.orig_argv[1:]]),
        "commit": _commit(),
        "seed": seed,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": _hardware(),
        "seconds": {name: round(value, 2) for name, value in durations.items()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the checkout's commit, with ``+changes`` if tracked files differ from it; None outside a checkout."""
    own = Path(__file__)
    try:
        # A repository around a .venv does not track what is installed there
        _git("ls-files", "--error-unmatch", own.name, folder=own.parent)
        return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes", folder=own.parent)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str, folder: Path) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _hardware() -> dict[str, Any]:
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "processes": process_info().size,
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def describe_scores(
    run: DictConfig,
    data: "MultiTaskDataModule",
    tasks: Mapping[str, "Task"],
    seconds: Mapping[str, float],
    command: str | None = None,
) -> dict[str, Any]:
    """Return ``describe_run``, and all that scores of ``tasks`` on ``data`` must carry to be compared with others.

    Of ``run``, the run's configuration, ``seed`` and ``paths`` are read.
    """
    return describe_run(run.seed, seconds, command) | {
        "protocol": PROTOCOL,
        "metrics": {name: task.variant() for name, task in tasks.items()},
        "main": {n: {"metric": t.main_metric, "higher_is_better": t.higher_is_better} for n, t in tasks.items()},
        "data": _describe(data, digest_cache(run)),
    }


def digest_cache(cfg: DictConfig) -> Path:
    """Return the folder that digests of data files are kept in."""
    return Path(cfg.paths.output_dir) / "cache" / "digests"


def _describe(data: "MultiTaskDataModule", cache: Path) -> dict[str, Any]:
    facts = {"root": str(data.root), "name": data.official, "stage": data.val_stage, "scale": data.scale}
    try:
        if (marker := read_prepared(data.root)) is not None:
            facts["prepared"] = marker["source"]
        reader = data.make_reader(data.targets)
        return facts | describe_data(reader, cache, data.recorded_splits(reader))
    except (OSError, UserError) as error:  # at the end of a run: its scores must not be lost for this
        log.warning("%s: the record has no digests of the data (%s)", data.root, error)
        return facts | {"manifest_sha256": None}
