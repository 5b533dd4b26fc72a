"""Check of a command's settings: by constructors' annotations, by the kinds of defaults, and by a table of the others."""

import copy
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, NonNegativeInt, PositiveInt

from mtlsi_net.core.config import find_object
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.values import MISSING, check_value, check_values

Names = str | Sequence[str] | None
Place = Path | None
Size = tuple[PositiveInt, PositiveInt] | None

KINDS: Mapping[str, Any] = {
    "batch_size": PositiveInt,
    "card_gib": float,
    "checkpoint_every": PositiveInt,
    "ckpt": Place,
    "class_map": Place,
    "dynamic": bool | Literal["auto"],
    "ids": Place,
    "image_size": Size,
    "images": PositiveInt,
    "gt": Path,
    "input": Path,
    "labels": Place,
    "loss_norm": Literal["device", "global"],
    "manifest": Place,
    "max_dist": float | None,
    "max_megapixels": float,
    "max_time": str | None,
    "nms": bool | None,
    "non_finite": Literal["stop", "skip"],
    "out": Place,
    "page_mb": float,
    "paths": Mapping[str, str],
    "peak_tflops": float | None,
    "pred": Path,
    "port": Annotated[int, Field(ge=1, le=65535)] | None,
    "rounds": PositiveInt,
    "runs": str | Sequence[str],
    "scales": float | Sequence[float],
    "seed": Annotated[int, Field(ge=0, le=2**32 - 1)],
    "size": Size | Literal["original"],
    "split": Literal["val", "train", "test"],
    "tasks": Names,
    "thin": bool | None,
    "trust": Names,
    "wandb": str | None,
    "without": Names,
}
"""Setting of a command -> what it may be, where its default does not tell."""
BY_DEFAULT: Mapping[type, Any] = {bool: bool, int: NonNegativeInt, float: float, str: str}
"""Kind of a default -> what the setting may be; a required setting is a text."""


def check_command(name: str, cfg: DictConfig) -> None:
    """Raise a UserError, with the setting's full key, for a value of the wrong kind in what a command line composes.

    Args:
        name: of the command.
        cfg: with or without ``hydra``; not changed.
    """
    values = _values(cfg)
    defaults = _defaults(name)
    for key, value in values.items():
        kind = _kind(key, defaults)
        if kind is not None:
            check_value(value, kind, key)
    check_values(modernize(values), "", find_object)


def _kind(key: str, defaults: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a type
    """Return what a setting may be; None for a group, and where neither the table nor the default tells."""
    if key not in defaults and key != "paths":
        return None
    default = defaults.get(key)
    unknown = isinstance(default, str) and "${" in default
    return KINDS.get(key, None if unknown else BY_DEFAULT.get(type(default)))


def _values(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved values, but for the precision, whose choice would occupy a GPU."""
    cfg = copy.deepcopy(cfg)
    if "trainer" in cfg and OmegaConf.is_interpolation(cfg.trainer, "precision"):
        cfg.trainer.precision = MISSING
    values: dict[str, Any] = {}
    for key in map(str, cfg):
        if key == "hydra" or OmegaConf.is_missing(cfg, key):
            continue
        try:
            value = cfg[key]
            values[key] = OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
        except OmegaConfBaseException as error:
            raise UserError(f"{error.full_key or key}: {str(error).splitlines()[0]}") from None
    return values


def _defaults(name: str) -> dict[str, Any]:
    """Return the settings of a command's own configuration file and of those it builds on, as they stand there."""
    text = (resources.files("mtlsi_net.conf") / f"{name}.yaml").read_text()
    own: Any = OmegaConf.to_container(OmegaConf.create(text))
    settings: dict[str, Any] = {}
    for entry in own.pop("defaults"):
        if isinstance(entry, str) and entry != "_self_":
            settings |= _defaults(entry)
    return settings | {key: value for key, value in own.items() if key != "hydra"}
