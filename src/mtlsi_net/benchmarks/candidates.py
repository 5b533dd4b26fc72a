"""Networks that a benchmark compares: overrides of ``conf/train.yaml``, composed and built."""

import re
import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtlsi_net.core.config import check_complete, check_options
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.settings import key_of
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.trainer import build_module
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.size import ModelSize, measure_size

PER_MODEL = ("model", "ablation", "backbone", "optim", "task_weights", "activation_checkpointing", "compile")
"""Groups and settings that candidates may override; all others are the same for all of them."""


@dataclass(frozen=True)
class Candidate:
    """A network with random weights, its training module, its backbone's name (None: built in), and its size."""

    module: MultiTaskModule
    backbone: str | None
    size: ModelSize


def build_candidates(cfg: DictConfig, device: torch.device) -> dict[str, Candidate]:
    """Build the networks of ``cfg.models`` for the run's tasks and image size, all on ``device`` at once.

    Each of ``models`` is a choice of conf/model, or overrides of train.yaml: ``mtlsi ablation=no_fusion``.

    Raises:
        UserError: an unknown name, an override that is invalid or would give the networks different data, or a network
            that cannot be built or does not accept images of this size.
    """
    names = [cfg.models] if isinstance(cfg.models, str) else list(cfg.models)
    if not names or len(set(names)) < len(names):
        raise UserError(f"models={names}: name at least one model, each once")
    running = GlobalHydra.instance().is_initialized()  # with its --config-dir
    context: AbstractContextManager[object] = (
        nullcontext() if running else initialize_config_module("mtlsi_net.conf", version_base="1.3")
    )
    candidates = {}
    with context:
        for name in names:
            torch.manual_seed(cfg.seed)
            try:
                candidates[name] = _build(_compose(str(name), cfg), device)
            except (UserError, ValueError, HydraException, OmegaConfBaseException) as error:
                raise UserError(f"models, {name!r}: {' '.join(str(error).split())}") from None
    return candidates


def _compose(name: str, cfg: DictConfig) -> DictConfig:
    """Return a candidate's configuration of training, with the run's data size, tasks and backbone in it."""
    words = shlex.split(name)
    overrides = [word if "=" in word or word.startswith("~") else f"model={word}" for word in words]
    keys = [key_of(override) for override in overrides]
    if not keys:
        raise UserError("models contains an empty name; use one of conf/model, e.g. mtlsi")
    for key in keys:
        if re.split(r"[./@]", key)[0] not in PER_MODEL or (key.startswith("backbone.") and "backbone" not in keys):
            raise UserError(
                f"{key} must be the same for all models; set it outside models=. Models may override {', '.join(PER_MODEL)}"
            )
    run = compose("train", overrides)
    shared: Any = OmegaConf.to_container(cfg, resolve=False)
    run.tasks, run.data.size = shared["tasks"], shared["data"]["size"]
    if "backbone" not in keys:
        run.backbone = shared["backbone"]
    run.backbone.pretrained = False
    return run


def _build(run: DictConfig, device: torch.device) -> Candidate:
    check_complete(run)
    for part in ("model", "backbone", "optim", "task_weights", "tasks"):
        check_options(OmegaConf.to_container(run[part], resolve=True), part)
    tasks = build_tasks(run)
    network = build_network(run, tasks)
    network.check_size(run.data.size)
    size = measure_size(network, tuple(run.data.size))
    if run.compile:
        network.compile()
    module = build_module(run, network, tasks, priors={}, config={})
    backbone = run.backbone.name if hasattr(network, "encoder") else None
    return Candidate(module.to(device), backbone, size)
