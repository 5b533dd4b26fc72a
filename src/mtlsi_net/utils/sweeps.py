"""Sweeps before their jobs start: what a job's folder is called, and which launchers can work."""

import hashlib
import re
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.utils.errors import UserError

PLACES = (
    *("paths", "sweep", "ckpt", "logger", "data.root", "data.cache_dir"),
    *("data.num_workers", "trainer.enable_progress_bar", "trainer.max_time", "checkpoint_every"),
)
"""Settings that say where and how a run is done, not what it finds."""

NAME_LENGTH = 200
"""Readable characters of a job folder's name; file systems allow 255."""


def decides(key: str) -> bool:
    """Say whether a setting decides what a run finds."""
    return not any(key == place or key.startswith(f"{place}.") for place in PLACES)


def job_folder(overrides: Sequence[str]) -> str:
    """Return a job's folder name, the same for the same overrides in any order: ``lr_0.1-seed_2-`` and a hash of the whole.

    Overrides in ``PLACES`` do not count, so that data or results may move. No character in it needs quotes in a shell or
    in Hydra's ``ckpt=...``.
    """
    kept = sorted(text for text in overrides if decides(text.lstrip("+~").partition("=")[0]))
    short = [re.sub(r"^[^=]*[./~+]", "", text) for text in kept]
    readable = "-".join(re.sub(r"[^\w.]+", "_", text, flags=re.ASCII).strip("_") for text in short)[:NAME_LENGTH]
    return f"{readable or 'defaults'}-{hashlib.sha256(','.join(kept).encode()).hexdigest()[:8]}"


def check_launcher(cfg: DictConfig) -> None:
    """Check that the launcher and the processes of one job go together.

    Lightning starts a job's other processes by running the command again: in a sweep, that is the whole sweep. SLURM
    starts them itself.

    Args:
        cfg: with ``hydra`` and, for entry points that train, ``trainer``.

    Raises:
        UserError: they do not.
    """
    devices = OmegaConf.select(cfg, "trainer.devices", default=1)
    launcher = cfg.hydra.launcher
    if launcher._target_.endswith("SlurmLauncher"):
        if launcher.tasks_per_node != devices:
            raise UserError(
                f"hydra.launcher.tasks_per_node={launcher.tasks_per_node} but trainer.devices={devices}: on SLURM every "
                "device needs a task; set both to the same number"
            )
    elif devices != 1 and "spawn" not in str(OmegaConf.select(cfg, "trainer.strategy")):
        raise UserError(
            f"a sweep cannot train with trainer.devices={devices} in processes that run its command again; set "
            "trainer.devices=1, or +trainer.strategy=ddp_spawn"
        )


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
