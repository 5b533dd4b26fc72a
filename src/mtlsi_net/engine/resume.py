"""Choice of the run that a command resumes, made before Hydra creates the run folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.io import flatten
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.resolvers import best_precision
from mtlsi_net.core.run_folder import LAST, RunFolder
from mtlsi_net.core.settings import affects_results


def resumes(cfg: DictConfig) -> bool:
    """Return whether the command resumes a run where there is one: ``ckpt`` is set, or SLURM has requeued the job."""
    return cfg.get("ckpt") is not None or int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def choose_folder(cfg: DictConfig) -> Path | None:
    """Return the folder of the run to resume, None to start one in ``cfg.paths.run_dir``.

    ``ckpt=last``, or a job that SLURM has requeued: the command's own run folder if it has a checkpoint, else the
    newest unfinished run of this experiment and configuration. ``ckpt=PATH``: that run's, by folder or checkpoint. A
    UserError if there is none.
    """
    if not resumes(cfg):
        return None
    if cfg.ckpt not in (None, "last"):
        return _named(Path(cfg.ckpt))
    own = RunFolder(Path(cfg.paths.run_dir))
    if own.has_checkpoint() or own.metrics.is_file():
        return own.root
    parent = Path(cfg.paths.output_dir) / cfg.name
    unfinished = sorted(filter(_is_unfinished, map(RunFolder, parent.glob("*/"))), key=_age, reverse=True)
    for folder in unfinished:
        if not differences(cfg, folder):
            print(f"resuming {folder.root}, the newest unfinished run of {cfg.name}")  # before logging is set up
            return folder.root
    if cfg.ckpt is None:
        return None
    if unfinished:
        newest = unfinished[0]
        raise UserError(
            f"{newest.root} is the newest unfinished run of {cfg.name}, but {described(differences(cfg, newest))}: "
            "give its settings, or ckpt=PATH of another run"
        )
    raise UserError(f"ckpt=last: {parent} has no unfinished run with a checkpoint, nor has {own.root}; leave ckpt out")


def _named(path: Path) -> Path:
    """Return the run folder of ``ckpt=path``: itself, its folder of checkpoints, or a checkpoint in it."""
    root = path.parent.parent if not path.is_dir() else path.parent if path.name == "checkpoints" else path
    run = RunFolder(root)
    if not (path.is_file() and path.parent == run.checkpoints) and not run.has_checkpoint():
        raise UserError(
            f"ckpt={path} is neither a run folder nor a checkpoint in one (<run folder>/checkpoints/{LAST})"
        )
    return root


def _is_unfinished(folder: RunFolder) -> bool:
    return folder.has_checkpoint() and not folder.metrics.is_file() and not folder.is_occupied()


def _age(folder: RunFolder) -> float:
    return max(path.stat().st_mtime for path in (folder.last, folder.previous) if path.is_file())


def differences(cfg: DictConfig, folder: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Return the settings that affect results and differ: key -> (in the folder, in ``cfg``)."""
    stored = OmegaConf.load(folder.config) if folder.config.is_file() else OmegaConf.create()
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    old = _settings(modernize(OmegaConf.to_container(stored)))
    new = _settings(OmegaConf.to_container(plain, resolve=True))
    for settings in (old, new):  # earlier versions stored "auto"
        if settings.get("trainer.precision") == "auto":
            settings["trainer.precision"] = best_precision(str(settings.get("trainer.accelerator")))
    return {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def _settings(config: Any) -> dict[str, Any]:  # noqa: ANN401 - what OmegaConf returns
    return {key: value for key, value in flatten(config).items() if affects_results(key) and value != {}}


def described(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the first few differences in words."""
    return shown(f"{key} was {old}, is {new}" for key, (old, new) in different.items())
