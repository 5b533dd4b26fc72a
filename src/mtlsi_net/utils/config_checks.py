"""Is a configuration complete, and do its classes take the options it gives them?"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from mtlsi_net.utils.errors import UserError, nearest_names


def check_options(node: Any, path: str = "") -> None:  # noqa: ANN401 - any part of a configuration
    """Check that every class named by the configuration takes the options given to it.

    An ablation sets options of a stage; on a network without that stage, or with another one there, they would end in
    a constructor's traceback.

    Raises:
        UserError: names the option, and the nearest that the class has.
    """
    if isinstance(node, list | ListConfig):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        try:
            accepted = inspect.signature(get_object(str(node["_target_"]))).parameters
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{path}._target_={node['_target_']} cannot be imported: {error}") from None
        anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values())
        for key in (str(key) for key in node if not str(key).startswith("_")):
            if key not in accepted and not anything:
                owner = str(node["_target_"]).rpartition(".")[2]
                raise UserError(f"{path}.{key} is set, but {owner} has no {key!r}; {nearest_names(key, accepted)}")
    for key, value in node.items():
        check_options(value, f"{path}.{key}".lstrip("."))


def check_complete(cfg: DictConfig) -> None:
    """Check that every setting that has no default (``???``) was given.

    Raises:
        UserError: names those that were not.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{', '.join(missing)} must be given: {missing[0]}=... (see the comments in conf/)")


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - what a setting may be
    """Return a setting's items; a single one that was given without brackets is a list of one."""
    return list(value) if isinstance(value, Sequence | ListConfig) and not isinstance(value, str) else [value]
