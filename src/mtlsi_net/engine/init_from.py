"""Start of a run, or of a network in Python, from trained weights: ``init_from``."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

from mtlsi_net.core.config import located
from mtlsi_net.core.errors import InputError, UserError
from mtlsi_net.core.renamed import modernize
from mtlsi_net.data.class_sets import class_names
from mtlsi_net.engine.checkpoint import find_checkpoint
from mtlsi_net.models.base import Network
from mtlsi_net.models.transfer import Labels, Transfer, Weights, transfer_weights
from mtlsi_net.models.weights import read_file, tensors_of
from mtlsi_net.tasks.base import Task

log = logging.getLogger(__name__)

CONFIG, MODEL = "config.json", "model.safetensors"
"""Files of a saved model."""
AVERAGE = "ExponentialAverage"


def init_from(network: Network, source: str | Path, tasks: Mapping[str, Task] | None = None) -> Transfer:
    """Give a network, in place, the weights of a trained one as far as they fit, and say what did not.

    Args:
        network: may have other tasks, classes, stages or sizes of positions than the trained one.
        source: a run folder (its last checkpoint), a checkpoint, a folder of ``save_pretrained``, or a .safetensors or torch
            file of weights, of a whole network or of a timm backbone. The averaged weights of a checkpoint that has them.
        tasks: of the network, so that outputs of other classes are told apart; None: by name and shape only.

    Raises:
        InputError: the source is missing or damaged, or nothing in it fits.
    """
    return transfer_weights(network, read_source(Path(source)), None if tasks is None else labels_of(tasks))


def initial_weights(cfg: DictConfig) -> Weights | None:
    """Return the weights that ``cfg.init_from`` names; None if it names nothing.

    Raises:
        UserError: they cannot be read, or come with another file for the same encoder.
    """
    if cfg.get("init_from") is None:
        return None
    with located("init_from"):
        weights = read_source(Path(cfg.init_from))
    backbone = cfg.get("backbone") or {}
    file = backbone.get("weights_file")
    if weights.backbone is not None and weights.backbone == backbone.get("name") and file:
        raise UserError(
            f"init_from={cfg.init_from} and backbone.weights_file={file} both hold weights of "
            f"{weights.backbone}: leave one out"
        )
    return weights


def start_from(network: Network, weights: Weights, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Give the network the weights, log in one line what fits, and return the run's record of it."""
    with located("init_from"):
        done = transfer_weights(network, weights, labels_of(tasks))
    log.info("init_from: %s", done)
    return {
        "init_from": {
            "source": done.origin,
            "parameters": [done.loaded, done.parameters],
            **{name: list(getattr(done, name)) for name in ("resized", "fresh", "unused")},
        }
    }


def labels_of(tasks: Mapping[str, Task]) -> dict[str, Labels]:
    """Return what each task's outputs mean."""
    return {
        name: (f"{type(task).__module__}.{type(task).__qualname__}", task.class_names or None)
        for name, task in tasks.items()
    }


def read_source(path: Path) -> Weights:
    """Return the weights in a run folder, checkpoint, saved model or weights file; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, or holds no weights.
    """
    if (path / CONFIG).is_file():
        return _read_saved_model(path)
    try:
        file = find_checkpoint(path)
    except UserError as error:
        raise InputError(str(error)) from None
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a run folder, a checkpoint, a saved model or a file of weights")
    content = read_file("init_from", file)
    config = content.get("config") if isinstance(content, Mapping) else None
    if not isinstance(config, Mapping) or "state_dict" not in content:
        return Weights(tensors_of(content, file), str(file))
    average = (content.get("callbacks") or {}).get(AVERAGE, {}).get("average")
    kind = "weights" if average is None else "averaged weights"
    state = content["state_dict"] if average is None else _of_average(average)
    origin = f"{file} ({kind}, step {content.get('global_step')})"
    weights = _described(state, origin, modernize(config), list(config.get("tasks") or ()))
    return replace(weights, licences=content.get("licences") or {})


def _of_average(average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an average's weights under the names of a checkpoint's."""
    inside = "module."
    return {f"network.{key.removeprefix(inside)}": v for key, v in average.items() if key.startswith(inside)}


def _read_saved_model(path: Path) -> Weights:
    try:
        config = modernize(json.loads((path / CONFIG).read_text()))
        state = load_file(path / MODEL)
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}); a saved model holds {CONFIG} and {MODEL}"
        ) from None
    order = list(config.get("order") or config.get("tasks") or ())
    weights = _described(state, str(path), config, order, config.get("kept"))
    return replace(weights, licences=(config.get("about") or {}).get("licences") or {})


def _described(
    state: Mapping[str, Tensor],
    origin: str,
    config: Mapping[str, Any],
    order: list[str],
    kept: list[str] | None = None,
) -> Weights:
    """Return the weights of a network with what its configuration says of it."""
    network = {key: value for key, value in state.items() if key.startswith("network.")}
    tasks = config.get("tasks") or {}
    backbone = config.get("backbone") or {}
    size = backbone.get("image_size")
    return Weights(
        network,
        origin,
        tasks=tuple(order),
        kept=tuple(name for name in order if kept is None or name in kept),
        labels={name: _labels(node) for name, node in tasks.items() if isinstance(node, Mapping)},
        size=None if size is None else (int(size[0]), int(size[1])),
        backbone=backbone.get("name"),
    )


def _labels(node: Mapping[str, Any]) -> Labels:
    classes = node.get("classes")
    try:
        names = None if classes is None else class_names(classes)
    except (InputError, TypeError):
        names = None
    return str(node.get("_target_", "")), names
