"""Factory of the W&B logger: online or offline, tags, and the id that a resumed run continues."""

import logging
import os
import secrets
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loggers import WandbLogger

from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import RunFolder

log = logging.getLogger(__name__)

TAG_GROUPS = ("backbone", "model", "task_weights", "optim")
"""Groups of the configuration whose choices become tags, beside the ablations."""


def wandb_logger(
    project: str, name: str, save_dir: str, group: str | None = None, log_model: bool = False, patience: float = 60.0
) -> WandbLogger:
    """Return a W&B logger whose run has started: online if the user is logged in and the service answers, else offline.

    WANDB_MODE overrules the first. The run folder ``save_dir`` keeps its run's id, so that a resumed run continues it.
    ``log_model`` uploads checkpoints, only online; ``patience`` is how many seconds to wait for the service.
    """
    import wandb  # only where it is chosen

    if not is_rank_zero():
        return WandbLogger(project=project, save_dir=save_dir, offline=True)  # starts no run: the first process logs
    wandb.finish()  # the run of an earlier job in this process, which would go on otherwise
    options: dict[str, Any] = {
        "project": project,
        "name": name,
        "save_dir": save_dir,
        "group": group,
        "job_type": "train",
        "tags": choices(),
        "id": _run_id(Path(save_dir)),
        "resume": "allow",
        "settings": wandb.Settings(init_timeout=patience),
    }
    try:
        offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
        logger = WandbLogger(offline=offline, log_model=log_model and not offline, **options)
        own = logger.experiment.id  # starts the run, to which an agent gives an id
        RunFolder(Path(save_dir)).wandb_id.write_text(f"{own}\n")
    except wandb.errors.Error as error:
        reason = str(error).splitlines()[0]
        log.warning("W&B does not answer (%s): logging offline, send later with `wandb sync`", reason)
        wandb.teardown()
        logger = WandbLogger(offline=True, **options)
    return logger


def choices() -> list[str]:
    """Return the chosen options of ``TAG_GROUPS`` and the ablations; none outside a command, where nobody has chosen."""
    if not HydraConfig.initialized():
        return []
    job = HydraConfig.get()
    tags = [str(job.runtime.choices[group]) for group in TAG_GROUPS if job.runtime.choices.get(group)]
    # Hydra notes no choice where several are made: they stand in the overrides alone.
    given = OverridesParser.create().parse_overrides(list(job.overrides.task))
    chosen = [override.value() for override in given if override.key_or_group == "ablation"]
    return tags + [str(tag) for value in chosen for tag in (value if isinstance(value, list) else [value])]


def _run_id(folder: Path) -> str:
    """Return the id in the run folder, or a new one, which is kept there."""
    path = RunFolder(folder).wandb_id
    if path.is_file():
        return path.read_text().strip()
    own = secrets.token_hex(4)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(own + "\n")
    return own
