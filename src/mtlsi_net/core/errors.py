"""User errors: exceptions whose one-line message says what is wrong, where, and what to do."""

import difflib
import errno
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

INTERRUPTED = 75
"""Exit code of training that saved a checkpoint and stopped early: EX_TEMPFAIL of sysexits.h, 'try again later'."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Numbers of operating system errors of disks that take no more."""

SHOWN = 5
"""Number of items that a message lists before it only counts the others."""


class UserError(Exception):
    """Wrong input or setup. Commands print only the message, without a traceback, and exit with code 2."""


class FailedTrial(Exception):
    """A trial of a search that failed; the search lists it and continues."""


class InputError(UserError, ValueError):
    """A wrong argument of a class or function; the message has its name, value and a remedy: ``heads=3 does not divide ...``.

    Models, metrics, losses and tasks raise it, because they do not know the configuration.
    ``core.config.instantiate_node`` prefixes the configuration key.
    """


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``did you mean 'a', 'b'?`` for a misspelt name, or the first few known names if none is similar."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if near:
        return "did you mean " + ", ".join(map(repr, near)) + "?"
    return "known: " + ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")


def shown(items: Iterable[str], between: str = ", ") -> str:
    """Return the first few items and the number of further ones."""
    names = list(items)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more


def choose(setting: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``; an InputError names the setting (e.g. ``phi``) and similar choices."""
    if name not in known:
        raise InputError(f"{setting}={name} is not known; {nearest_names(str(name), known)}")
    return known[name]


def find_user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError behind ``error``: itself, or one that a library wrapped as its cause or context.

    An error of a disk that is full or read-only becomes one.
    """
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            what = error.filename or "a file"
            return UserError(f"{what} cannot be written ({error.strerror}); free disk space, or write to another disk")
        error = error.__cause__ or error.__context__
    return None
