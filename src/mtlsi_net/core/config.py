"""Checks of a configuration, and instantiation of the objects it describes."""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import mtlsi_net.core.resolvers  # noqa: F401 - configurations use them
from mtlsi_net.core.errors import InputError, UserError, nearest_names
from mtlsi_net.core.io import flatten
from mtlsi_net.core.logs import quiet
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.values import check_values


def find_object(name: str) -> Any:  # noqa: ANN401 - a class, a function or a value
    """Return the object with a dotted name; None if it does not exist."""
    try:
        with quiet("hydra.utils", logging.CRITICAL):
            return get_object(name)
    except (ImportError, AttributeError, ValueError):
        return None


def check_options(node: Any, path: str = "") -> None:  # noqa: ANN401 - any part of a configuration
    """Raise a UserError unless every class in the configuration accepts the options set for it, for example by an ablation."""
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
    """Raise a UserError that names the required settings (``???``) without a value."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{', '.join(missing)} must be given: {missing[0]}=... (see the comments in conf/)")


def refuse_choice_on_test(cfg: DictConfig, what: str) -> None:
    """Raise a UserError if ``what`` would choose by scores of a published test set, which nothing would tell later."""
    if cfg.data.get("test_split") and not cfg.data.get("dev_split"):
        raise UserError(
            f"{what} would choose by scores of the test images, which this data set has as val: hold out training images "
            "for it with data.dev_split=true"
        )


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration's values, interpolations resolved.

    Raises:
        UserError: an interpolation has no value, or a text, such as a folder's name, holds a literal ``${``: it would be
            taken for an interpolation where the configuration is read again.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from None
    for key, value in flatten(plain).items():
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{key}={value}: a run cannot record a name with '${{' in it; rename that file or folder")
    return cast(dict[str, Any], plain)


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - what a setting may be
    """Return a setting as a list; a single value without brackets becomes a list of one."""
    return list(value) if isinstance(value, Sequence | ListConfig) and not isinstance(value, str) else [value]


@contextmanager
def located(key: str) -> Iterator[None]:
    """Prefix an InputError raised inside the context with a key, as a UserError: ``model.fusion: phi=rellu is not known``."""
    try:
        yield
    except InputError as error:
        raise UserError(f"{key}: {error}") from error


class LocatedFactory(partial[Any]):
    """A ``_partial_`` node of a configuration; InputErrors of its class are reported with the node's ``key``."""

    key: str

    def __call__(self, /, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Make the object."""
        with located(self.key):
            return super().__call__(*args, **options)


def instantiate_node(cfg: DictConfig, key: str, **options: Any) -> Any:  # noqa: ANN401 - whatever it describes
    """Return the object that a node of the configuration describes, such as ``model``.

    ``options`` are added to the node's arguments; Hydra's options, such as ``_convert_`` (default ``all``), are accepted.

    Raises:
        UserError: a class rejects its arguments; the message starts with their key. With HYDRA_FULL_ERROR=1, errors of
            other libraries are raised unchanged.
    """
    plain = OmegaConf.to_container(cfg[key], resolve=True)
    modern = modernize(plain)
    check_values(modern, key, find_object)
    node = cfg[key] if modern == plain else OmegaConf.create(modern)
    try:
        made = instantiate(node, **{"_convert_": "all", **options})
    except InstantiationException as error:
        cause = error.__cause__
        where = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else key
        if isinstance(cause, InputError):
            raise UserError(f"{where}: {cause}") from error
        if isinstance(cause, UserError):
            raise cause from error
        if not isinstance(cause, TypeError | ValueError) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        reason = " ".join(str(cause).split())
        raise UserError(f"{where}: {reason} ({type(cause).__name__}; HYDRA_FULL_ERROR=1 shows where)") from error
    return _with_keys(made, key)


def _with_keys(made: Any, key: str) -> Any:  # noqa: ANN401
    """Return ``made`` with every factory in it as a ``LocatedFactory``."""
    if isinstance(made, partial):
        options = {name: _with_keys(value, f"{key}.{name}") for name, value in made.keywords.items()}
        factory = LocatedFactory(made.func, *made.args, **options)
        factory.key = key
        return factory
    if isinstance(made, dict):
        return {name: _with_keys(value, f"{key}.{name}") for name, value in made.items()}
    return made
