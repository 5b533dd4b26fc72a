"""Folder names of a sweep's jobs, and the check of its launcher."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import process_info
from mtlsi_net.core.renamed import CHOICES, OPTIONS
from mtlsi_net.core.settings import Effect, Setting, key_of, setting_of

NAME_LENGTH = 200
"""Readable characters of a job folder's name; file systems allow 255."""


def job_folder(overrides: Sequence[str], sweep: str | None = None) -> str:
    """Return a job's folder name, the same for the same overrides in any order: ``lr_0.1-seed_2-`` and a hash of the whole.

    Overrides that say where a job reads and writes do not count, so that data or results may move. No character in the name
    needs quotes in a shell or in Hydra's ``ckpt=...``. A job that began in the folder ``sweep`` without some of today's
    neutral overrides, or under the former name of a choice, keeps its folder.
    """
    own = _folder_name(overrides)
    if sweep is None or (Path(sweep) / own).exists():
        return own
    spellings = (texts for fewer in _without_neutral(overrides) for texts in (fewer, *_former_overrides(fewer)))
    return next((name for name in map(_folder_name, spellings) if (Path(sweep) / name).is_dir()), own)


def _without_neutral(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield the overrides without none, one, ... all of the neutral ones that are part of a name."""
    neutral = [text for text in overrides if _setting(text).names_job and _setting(text).effect is Effect.NEUTRAL]
    for count in range(len(neutral) + 1):
        for dropped in combinations(neutral, count):
            yield [text for text in overrides if text not in dropped]


def _former_overrides(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield the overrides with former names in place of some or all of today's."""
    renamed = [(group, name, former) for group, names in CHOICES.items() for former, name in names.items()]
    renamed += [(name, name, former) for former, name in OPTIONS["train"].items()]
    spellings = [list(overrides)]
    for option, name, former in renamed:
        for texts in list(spellings):
            earlier = [re.sub(rf"\b{name}\b", former, t) if t.startswith(f"{option}=") else t for t in texts]
            if earlier != texts:
                spellings.append(earlier)
                yield earlier


def _setting(override: str) -> Setting:
    return setting_of(key_of(override))


def _names_run(override: str) -> bool:
    """Return whether an override names the run that a job extends, which tells jobs apart."""
    key, _, value = override.partition("=")
    return key == "ckpt" and value not in ("last", "null")


def _folder_name(overrides: Sequence[str]) -> str:
    kept = sorted(text for text in overrides if _setting(text).names_job or _names_run(text))
    short = [re.sub(r"^[^=]*[./~+]", "", text) for text in kept]
    readable = "-".join(re.sub(r"[^\w.]+", "_", text, flags=re.ASCII).strip("_") for text in short)[:NAME_LENGTH]
    return f"{readable or 'defaults'}-{hashlib.sha256(','.join(kept).encode()).hexdigest()[:8]}"


def is_search(hydra: DictConfig | HydraConf) -> bool:
    """Return whether Optuna chooses the jobs of a sweep, by ``cfg.hydra``."""
    return str(hydra.sweeper._target_).endswith("OptunaSweeper")


def check_launcher(cfg: DictConfig) -> None:
    """Raise a UserError unless the launcher and the processes of one job go together.

    A job starts a process for each of its devices itself (``cli.launch``), unless the launcher did. Several jobs at once
    on GPUs are refused: each would take the first one.
    """
    if process_info().starter:
        raise UserError(
            f"a sweep was started in {process_info().size} processes by {process_info().starter}: start it once, each of its "
            "jobs starts a process for every device"
        )
    devices = OmegaConf.select(cfg, "trainer.devices", default=1)
    nodes = OmegaConf.select(cfg, "trainer.num_nodes", default=1)
    launcher = cfg.hydra.launcher
    kind = launcher._target_.rpartition(".")[2]
    if kind in ("SlurmLauncher", "LocalLauncher"):
        if devices in ("auto", -1) and launcher.get("gpus_per_node"):
            devices = launcher.gpus_per_node
        given = (launcher.nodes, launcher.tasks_per_node)
        if given != (nodes, devices) and not (given == (1, 1) and nodes == 1):
            raise UserError(
                f"hydra.launcher.nodes={given[0]} and tasks_per_node={given[1]}, but trainer.num_nodes={nodes} and "
                f"trainer.devices={devices}: set them to the same numbers (or one task on one node, which starts a process "
                "for each device)"
            )
    elif nodes != 1:
        raise UserError(
            f"trainer.num_nodes={nodes}: a sweep over several nodes needs SLURM, hydra/launcher=submitit_slurm"
        )
    elif kind == "JoblibLauncher" and devices != 1 and launcher.get("n_jobs", -1) != 1:
        raise UserError(
            f"hydra.launcher.n_jobs={launcher.get('n_jobs', -1)} jobs at once would all take the same "
            f"trainer.devices={devices}: leave hydra/launcher=joblib out, so that one job follows the other, or set "
            "trainer.devices=1"
        )
    elif kind == "JoblibLauncher" and launcher.get("n_jobs", -1) != 1 and _on_gpus(cfg):
        raise UserError(
            f"hydra.launcher.n_jobs={launcher.get('n_jobs', -1)} jobs at once would all take the first GPU: leave "
            "hydra/launcher=joblib out, or start a command for each GPU with CUDA_VISIBLE_DEVICES=0, 1, ... that trains a part "
            "of the sweep"
        )


def _on_gpus(cfg: DictConfig) -> bool:
    """Return whether ``cfg.trainer`` takes a GPU."""
    accelerator = str(OmegaConf.select(cfg, "trainer.accelerator", default="auto"))
    if accelerator == "auto":
        import torch  # few sweeps need to ask

        return torch.cuda.is_available()
    return accelerator in ("gpu", "cuda")


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
