"""Which run a command goes on with, decided before Hydra makes the run folder."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import LAST, RunFolder
from mtlsi_net.utils.sweeps import decides

log = logging.getLogger(__name__)


def requeued() -> bool:
    """Say whether SLURM has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def goes_on(cfg: DictConfig) -> bool:
    """Say whether the command goes on with a run where there is one."""
    return cfg.get("ckpt") is not None or requeued()


def choose_folder(cfg: DictConfig) -> Path | None:
    """Return the folder of the run to go on with, None to start one in ``cfg.paths.run_dir``.

    ``ckpt=last``, or a job that SLURM has queued again: the command's own run folder if it has a checkpoint, else the
    newest unfinished run of this experiment and configuration. ``ckpt=PATH``: that run's, by folder or checkpoint.

    Raises:
        UserError: there is none, or only runs of other configurations.
    """
    if not goes_on(cfg):
        return None
    own = RunFolder(Path(cfg.paths.run_dir))
    if cfg.ckpt not in (None, "last"):
        return _named(Path(cfg.ckpt))
    if has_checkpoint(own) or own.metrics.is_file():
        return own.root
    parent = Path(cfg.paths.output_dir) / cfg.name
    found = sorted(_unfinished(parent), key=_age, reverse=True)
    same = [folder for folder in found if not differences(cfg, folder)]
    if same:
        print(f"going on with {same[0].root}, the newest unfinished run of {cfg.name}")  # before logging is set up
        return same[0].root
    if cfg.ckpt is None:
        return None
    if found:
        raise UserError(
            f"{found[0].root} is the newest unfinished run of {cfg.name}, but {described(differences(cfg, found[0]))}: "
            "give its settings, or ckpt=PATH of another run"
        )
    raise UserError(f"ckpt=last: {parent} has no unfinished run with a checkpoint, nor has {own.root}; leave ckpt out")


def _named(path: Path) -> Path:
    folder = path if path.is_dir() else path.parent.parent
    if path.is_dir() and path.name == "checkpoints":
        folder = path.parent
    run = RunFolder(folder)
    if not (path.is_file() and path.parent == run.checkpoints) and not has_checkpoint(run):
        raise UserError(
            f"ckpt={path} is neither a run folder nor a checkpoint in one (<run folder>/checkpoints/{LAST})"
        )
    return folder


def has_checkpoint(folder: RunFolder) -> bool:
    """Say whether a run has left something to go on from, whole or not."""
    return folder.last.is_file() or folder.previous.is_file()


def _unfinished(parent: Path) -> Iterator[RunFolder]:
    for path in parent.glob("*/"):
        folder = RunFolder(path)
        if has_checkpoint(folder) and not folder.metrics.is_file() and not folder.is_occupied():
            yield folder


def _age(folder: RunFolder) -> float:
    return max(path.stat().st_mtime for path in (folder.last, folder.previous) if path.is_file())


def differences(cfg: DictConfig, folder: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Return the settings that decide what a run finds and differ: key -> (in the folder, in ``cfg``)."""
    saved = OmegaConf.load(folder.config) if folder.config.is_file() else OmegaConf.create()
    found = dict(_leaves(OmegaConf.to_container(saved)))
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    wanted = dict(_leaves(OmegaConf.to_container(plain, resolve=True)))
    keys = sorted(found.keys() | wanted.keys())
    return {key: (found.get(key), wanted.get(key)) for key in keys if found.get(key) != wanted.get(key)}


def described(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the first few differences in words."""
    changes = [f"{key} was {old}, is {new}" for key, (old, new) in different.items()]
    return ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any part of a configuration
    """Yield the settings that decide what a run finds, ``a.b.c`` -> value; lists count as one."""
    if path and not decides(path):
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
