"""Choice of the run that a command resumes or extends, made before Hydra creates the run folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.run_folder import LAST, RunFolder, slurm_job
from mtlsi_net.core.settings import Effect, differing_settings


def resumes(cfg: DictConfig) -> bool:
    """Return whether the command resumes a run where there is one: ``ckpt`` is set, or it was ``restarted``."""
    return cfg.get("ckpt") is not None or restarted()


def restarted() -> bool:
    """Return whether SLURM has requeued this job, or torchrun has started its processes again."""
    return any(int(os.environ.get(f"{name}_RESTART_COUNT") or 0) > 0 for name in ("SLURM", "TORCHELASTIC"))


def choose_folder(cfg: DictConfig) -> Path | None:
    """Return the folder of the run to resume, None to start one in ``cfg.paths.run_dir``, which may extend another.

    ``ckpt=last``, or a restarted job: the command's own run folder if it has a checkpoint, else the newest unfinished run
    of this experiment and configuration; before that, one that the same SLURM job has finished, which is not trained
    again. ``ckpt=PATH``: that run's, by folder or checkpoint.

    Raises:
        UserError: there is no such run, or its settings are others.
    """
    if not resumes(cfg):
        return None
    if is_path(cfg.ckpt):
        return _choose_named(cfg, named_run(Path(cfg.ckpt)))
    own = RunFolder(Path(cfg.paths.run_dir))
    if own.has_checkpoint() or own.metrics.is_file():
        return own.root
    parent = Path(cfg.paths.output_dir) / cfg.name
    if cfg.ckpt is None and (done := _finished_by_this_job(cfg, parent)) is not None:
        return done
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
            f"{refusal(differences(cfg, newest), newest)} (it is the newest unfinished run of {cfg.name}; ckpt=PATH "
            "resumes another)"
        )
    raise UserError(
        f"ckpt=last: neither {parent} nor {own.root} has an unfinished run with a checkpoint; leave ckpt out, or extend a "
        "finished run with ckpt=RUN_FOLDER and a larger trainer.max_steps"
    )


def _finished_by_this_job(cfg: DictConfig, parent: Path) -> Path | None:
    """Return the folder of a run of this configuration that this SLURM job has finished, perhaps before it was requeued."""
    job = slurm_job()
    runs = (run for run in map(RunFolder, parent.glob("*/")) if job is not None and run.slurm_job() == job)
    return next((run.root for run in runs if run.metrics.is_file() and not differences(cfg, run)), None)


def is_path(ckpt: str | None) -> bool:
    """Return whether ``ckpt`` names a run by its path."""
    return ckpt not in (None, "last")


def _choose_named(cfg: DictConfig, run: RunFolder) -> Path | None:
    """Return the folder of the run that ``cfg.ckpt`` names to resume it, None to extend it in ``cfg.paths.run_dir``."""
    own = RunFolder(Path(cfg.paths.run_dir))
    if extended_run(cfg) is None:
        return run.root
    if own.root.resolve() == run.root.resolve():
        raise UserError(
            f"{run.root} stays as it is: the run that extends it needs another folder, leave out paths.run_dir"
        )
    if cfg.get("ckpt") is not None and restarted():
        return _begun_extension(cfg)
    return None


def _begun_extension(cfg: DictConfig) -> Path | None:
    """Return the newest unfinished run of this configuration that extends ``cfg.ckpt``, for a restarted job."""
    parent = Path(cfg.paths.output_dir) / cfg.name
    unfinished = sorted(filter(_is_unfinished, map(RunFolder, parent.glob("*/"))), key=_age, reverse=True)
    same = (run for run in unfinished if OmegaConf.select(OmegaConf.load(run.config), "ckpt") == cfg.ckpt)
    return next((run.root for run in same if not differences(cfg, run)), None)


def extended_run(cfg: DictConfig) -> RunFolder | None:
    """Return the run that ``cfg`` trains over another number of steps; None if it is the run that ``cfg.ckpt`` names.

    Raises:
        UserError: there is no such run, or other settings differ than its length.
    """
    if not is_path(cfg.get("ckpt")):
        return None
    run = named_run(Path(cfg.ckpt))
    if not differences(cfg, run):
        return None
    if differences(cfg, run, Effect.DIFFERENT):
        raise UserError(refusal(differences(cfg, run), run))
    return run


def named_run(path: Path) -> RunFolder:
    """Return the run of ``ckpt=path``: its folder, its folder of checkpoints, or a checkpoint in it.

    ``last.ckpt`` may be missing where ``previous.ckpt`` is there, as a crash may leave them.

    Raises:
        UserError: there is no such checkpoint.
    """
    folder = path.is_dir()
    root = path.parent if path.name == "checkpoints" else path
    run = RunFolder(root) if folder else RunFolder.of_checkpoint(path)
    any_serves = folder or path.name == LAST
    if run is None or not (path.is_file() or (any_serves and run.has_checkpoint())):
        raise UserError(
            f"ckpt={path} is neither a run folder nor a checkpoint in one (<run folder>/checkpoints/{LAST})"
        )
    return run


def _is_unfinished(folder: RunFolder) -> bool:
    return folder.has_checkpoint() and not folder.metrics.is_file() and not folder.is_occupied()


def _age(folder: RunFolder) -> float:
    return max(path.stat().st_mtime for path in (folder.last, folder.previous) if path.is_file())


OTHER_RUN = (Effect.EXTENDS, Effect.DIFFERENT)


def differences(cfg: DictConfig, folder: RunFolder, *effects: Effect) -> dict[str, tuple[Any, Any]]:
    """Return the settings with which ``cfg`` would be another run than the folder's: name -> (in the folder, in ``cfg``).

    ``effects``: of the settings; by default all that make another run.
    """
    stored = OmegaConf.load(folder.config) if folder.config.is_file() else OmegaConf.create()
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    old, new = modernize(OmegaConf.to_container(stored)), modernize(OmegaConf.to_container(plain, resolve=True))
    return differing_settings(old, new, *(effects or OTHER_RUN))


def refusal(different: Mapping[str, tuple[Any, Any]], folder: RunFolder, sweep: bool = False) -> str:
    """Return why a folder's run is not resumed with ``different`` settings, and what to do; ``sweep``: as a sweep's job."""
    advice = (
        "Resume with the run's own settings, extend it with another trainer.max_steps alone, or start a new run: from its "
        f"weights with init_from={folder.root} instead of ckpt, or without either"
    )
    if sweep:
        advice = "Use the sweep's own settings, or give the sweep another name with sweep=NAME"
    where = f"this sweep's folder {folder.root}" if sweep else str(folder.root)
    if not folder.config.is_file():
        return f"{where} holds a run without config.yaml, whose settings are not known. {advice}"
    old, new = (shown(f"{key}={_text(pair[side])}" for key, pair in different.items()) for side in (0, 1))
    return f"{where} {'holds a run' if sweep else 'was'} trained with {old}; this command sets {new}. {advice}"


def _text(value: Any) -> str:  # noqa: ANN401 - any setting
    return "null" if value is None else str(value)
