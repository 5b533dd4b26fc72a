"""Builders of tasks, data and network from a configuration, without Lightning."""

import inspect
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from mtlsi_net.core import ranks
from mtlsi_net.core.config import instantiate_node, located
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.label_checks import LabelFacts, check_plausible, check_training_labels, describe_values
from mtlsi_net.models.base import Network
from mtlsi_net.tasks.base import Task

if TYPE_CHECKING:
    from mtlsi_net.data.datamodule import MultiTaskDataModule

log = logging.getLogger(__name__)

MAX_PRIOR_IMAGES = 500
"""Training images read for the priors, evenly spaced (our choice: all of NYUDv2 would change the third digit)."""


def build_tasks(cfg: DictConfig) -> dict[str, Task]:
    """Return the tasks of the run, in the order of the configuration."""
    tasks: dict[str, Task] = dict(instantiate_node(cfg, "tasks"))
    if not tasks:
        raise UserError("no task is left to train; keep at least one of the task set")
    return tasks


def open_data(cfg: DictConfig, tasks: Mapping[str, Task]) -> "MultiTaskDataModule":
    """Return the data module, nothing read yet."""
    targets = {name: task.target for name, task in tasks.items()}
    data: MultiTaskDataModule = instantiate_node(cfg, "data")(targets=targets)
    return data


def build_data(cfg: DictConfig, tasks: Mapping[str, Task]) -> "MultiTaskDataModule":
    """Return the data module, its files generated where it can and all of them checked."""
    data = open_data(cfg, tasks)
    ranks.rank_zero_first("prepare data", data.prepare_data)
    data.setup()
    return data


def build_network(cfg: DictConfig, tasks: Mapping[str, Task]) -> Network:
    """Return the network with its encoder's weights loaded; one that takes no encoder brings its own.

    Example:
        >>> from hydra import compose, initialize_config_module
        >>> from mtlsi_net import build_network, build_tasks
        >>> with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        ...     cfg = compose("train", ["data=nyud", "backbone.name=test_convnext", "model.width=32", "model.head_dim=32"])
        >>> tasks = build_tasks(cfg)
        >>> network = build_network(cfg, tasks)
        >>> list(tasks), type(network).__name__
        (['semseg', 'depth', 'normals', 'boundary'], 'MTLSINet')
    """
    factory = instantiate_node(cfg, "model")
    parts: dict[str, Any] = {
        "task_channels": {name: task.channels for name, task in tasks.items()},
        "activations": {name: task.activate for name, task in tasks.items()},
    }
    if "encoder" in inspect.signature(factory).parameters:
        if cfg.get("backbone") is None:
            name = str(cfg.model._target_).rpartition(".")[2]
            raise UserError(f"{name} needs a backbone; a trained one is evaluated from its checkpoint: ckpt=FILE")
        parts["encoder"] = instantiate_node(cfg, "backbone")
    network: Network = factory(**parts)
    if cfg.get("activation_checkpointing"):
        with located("activation_checkpointing=true"):
            network.checkpoint_activations()
    return network


def fit_priors(data: "MultiTaskDataModule", tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    """Return each task's best constant raw output (K,), from the training labels; the first process reads them."""
    return ranks.broadcast_from_rank_zero("priors", lambda: _fit_priors(data, tasks))


def _fit_priors(data: "MultiTaskDataModule", tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    labelled = data.datasets["train_plain"]
    chosen = labelled.spread(MAX_PRIOR_IMAGES)

    def statistics(index: int) -> tuple[dict[str, Tensor], dict[str, LabelFacts]]:
        labels = labelled.labels(index)
        facts = {name: describe_values(labels[name].numpy(), task.target) for name, task in tasks.items()}
        return {name: task.statistics(labels[name][None]) for name, task in tasks.items()}, facts

    totals: dict[str, Tensor] = {}
    facts = {name: LabelFacts() for name in tasks}
    with ThreadPoolExecutor() as pool:
        for sums, described in track(pool.map(statistics, chosen), "label priors", total=len(chosen), transient=True):
            totals = {name: totals.get(name, torch.zeros_like(value)) + value for name, value in sums.items()}
            for name, own in described.items():
                facts[name].add(own)
    _check_labels(data, tasks, facts)
    priors = {}
    for name, task in tasks.items():
        with located(f"tasks.{name}"):
            priors[name] = task.prior(totals[name])
    return priors


def _check_labels(data: "MultiTaskDataModule", tasks: Mapping[str, Task], facts: Mapping[str, LabelFacts]) -> None:
    """Warn of labels that are probably misread; a UserError if a task has no valid pixel. ``verify_data`` checks the same."""
    for finding in check_training_labels(facts):
        raise UserError(finding.text)
    names = {} if data.official else {name: task.class_names for name, task in tasks.items()}
    reader = data.datasets["train_plain"].reader
    for finding in check_plausible(facts, data.targets, names, {name: reader.encoding(name) for name in tasks}):
        log.warning("%s: %s", data.root, finding.text)
