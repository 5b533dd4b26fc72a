"""Check of classes that a file may name: building a class from a configuration runs its code."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mtlsi_net.core.config import find_object
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.settings import is_among

OWN = ("torch.optim", *(f"mtlsi_net.{part}" for part in ("models", "tasks", "data", "lit", "core.types")))
"""Packages whose classes a file may name: none of them runs what it is given."""
FUNCTIONS = ("mtlsi_net.data.rooms.generate.generate_rooms",)
"""Functions that it may name; this one writes into the data folder, where data is opened at all (evaluate, probe)."""

NAMES = ("_target_", "target")
"""Settings that name a class; the second is that of networks from outside."""

_more: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Let configurations in files name classes of these packages too, inside the context."""
    token = _more.set((*_more.get(), *packages))
    try:
        yield
    finally:
        _more.reset(token)


def check_targets(config: Any, source: str) -> None:  # noqa: ANN401 - any part of a configuration
    """Check that a configuration read from a file names only classes of this suite and of packages trusted by the user.

    It must be resolved, as files of this suite are: interpolations could make mappings, and read the environment. A
    UserError names the file, ``source``; nothing of what that names was imported.
    """
    for key, value in _strings(config):
        if "${" in key or "${" in value:
            raise UserError(
                f"{source} holds an interpolation ({key}: {value}), which no file of this suite does; it is refused"
            )
        if key not in NAMES:
            continue
        own = is_among(value, ("mtlsi_net",))
        if (not own and is_among(value, _more.get())) or value in FUNCTIONS:
            continue
        if not is_among(value, OWN) or not is_among(_home(value), OWN):
            package = value.partition(".")[0]
            remedy = f". If you know where the file comes from, and have the package, allow it: trust=[{package}]"
            raise UserError(
                f"{source} names {value}, which is no network, task or data set of this suite: loading it would run that code"
                + ("; it is refused" if own else remedy)
            )


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield every key with its value, where that is a string, else with nothing."""
    if isinstance(node, Mapping):
        for own, value in node.items():
            yield from _strings(value, str(own))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _strings(value, key)
    yield key, node if isinstance(node, str) else ""


def _home(name: str) -> str:
    """Return where the class behind a dotted name of ours was defined, for a module may hold what another package made.

    What cannot be found is left to the error of whoever builds it.
    """
    found = find_object(name)
    if found is None:
        return name
    return found.__module__ if inspect.isclass(found) else ""
