"""Files from others: a configuration names classes, and whoever builds them runs their code."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hydra.utils import get_object

from mtlsi_net.utils.errors import UserError

OWN = ("torch.optim", *(f"mtlsi_net.{part}" for part in ("models", "tasks", "data", "lit", "specs")))
"""Packages whose classes a file may name: none of them runs or writes what it is given."""
FUNCTIONS = ("mtlsi_net.data.room_generation.generate_rooms",)
"""Functions that it may name."""

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

    Args:
        config: mappings, lists and plain values.
        source: the file, for the message.

    Raises:
        UserError: it names another; nothing of its package was imported.
    """
    for name in _targets(config):
        if _within(name, _more.get()) or name in FUNCTIONS:
            continue
        if not _within(name, OWN) or not _within(_home(name), OWN):
            package = name.partition(".")[0]
            raise UserError(
                f"{source} names {name}, which is no part of this suite: loading it would run that code. If you know where "
                f"the file comes from, and have the package, allow it: trust=[{package}]"
            )


def _targets(node: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in NAMES and isinstance(value, str):
                yield value
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _home(name: str) -> str:
    """Return where the class behind a dotted name of ours was defined, for a module may hold what another package made.

    What cannot be found is left to the error of whoever builds it.
    """
    try:
        found = get_object(name)
    except (ImportError, AttributeError, ValueError):
        return name
    return found.__module__ if inspect.isclass(found) else ""
