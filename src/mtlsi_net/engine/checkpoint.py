"""Loader of a trained network from its checkpoint file alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.trust import check_targets
from mtlsi_net.models.weights import brief, read_torch_file

ONNX, PROGRAM = ".onnx", ".pt2"
"""Suffixes of exported graphs."""


def find_checkpoint(path: Path) -> Path:
    """Return a checkpoint: the file itself, or the last one of a run folder; a UserError if that has none."""
    if path.suffix in (ONNX, PROGRAM) and path.is_file():
        raise UserError(
            f"{path} is an exported graph, which only predict, demo and load take; give the run, checkpoint or saved model "
            "that it was made from"
        )
    if not path.is_dir():
        return path
    last = RunFolder(path).last
    for file in (last, path / last.name):
        if file.is_file():
            return file
    raise UserError(
        f"{path} is neither a run folder (no {last.relative_to(path)}) nor a saved model (no config.json); give one of "
        "these, or a checkpoint"
    )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint, and ``max_steps`` of its training; nothing in it is executed.

    Raises:
        UserError: it is no whole checkpoint of this suite, or names other code.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; a run keeps its own in <run folder>/checkpoints/")
    checkpoint: dict[str, Any] = read_torch_file(path, "checkpoint")
    missing = {"config", "priors", "state_dict"} - set(checkpoint if isinstance(checkpoint, dict) else ())
    if missing:
        raise UserError(f"checkpoint {path} was not written by this suite (no {', '.join(sorted(missing))})")
    config = checkpoint["config"]
    parts = [config.get(part) for part in ("model", "tasks", "data")] if isinstance(config, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(
            f"checkpoint {path} was not written by this suite (its configuration has no model, tasks or data)"
        )
    checkpoint["config"] = config = modernize(config)
    checkpoint["max_steps"] = (config.get("trainer") or {}).get("max_steps")
    for part in ("hydra", "trainer", "callbacks", "logger"):  # of the training; whoever uses the network has others
        config.pop(part, None)
    config["data"]["extra_augmentations"] = []  # only training would build these
    check_targets(config, f"checkpoint {path}")
    return checkpoint


def without_downloads(run: DictConfig) -> None:
    """Let a network be built without the weights that training started from: the checkpoint's own follow."""
    settings = (("backbone", "pretrained", False), ("backbone", "weights_file", None), ("model", "weights_file", None))
    for part, setting, off in settings:
        if setting in (run.get(part) or {}):
            run[part][setting] = off


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give a module its weights, every one of them; a UserError names the ``source`` of those that do not fit."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{source} does not fit the network that its own configuration describes ({brief(error)}); it was written by "
            "another version of this suite: use that one, or train again"
        ) from None
