"""Errors a user can mend: one line that says what is wrong, where, and what to do."""

import difflib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from mtlsi_net.utils.ranks import is_first, let_others_report, place

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERRUPTED = 75
"""Exit code of training that has saved and ended before its end: sysexits' EX_TEMPFAIL, 'try again'."""

SHOWN = 5
"""Items that a message names before it counts the rest."""


class UserError(Exception):
    """Wrong input or set-up. Entry points print the message alone, without a traceback, and exit with code 2."""


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``did you mean 'a', 'b'?`` for a misspelt name, or the first few known names if none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if near:
        return "did you mean " + ", ".join(map(repr, near)) + "?"
    return "known: " + ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")


def shown(items: Iterable[str], between: str = ", ") -> str:
    """Return the first few items and the number of the rest."""
    names = list(items)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more


def choose(setting: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``.

    Args:
        setting: what the user would change, e.g. ``model.fusion.phi``.
        name: what it is set to.
        known: choices by name.

    Raises:
        UserError: no such choice; names the setting and the choices that are near.
    """
    if name not in known:
        raise UserError(f"{setting}={name} is not known; {nearest_names(str(name), known)}")
    return known[name]


def find_user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError behind ``error``: itself, or one that a library wrapped as its cause or context."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a UserError, however deeply wrapped, into one printed line and exit code 2; leave all else alone.

    Of several processes' errors, the one that came first is heard.
    """
    try:
        yield
    except Exception as error:
        let_others_report(error)
        known = find_user_error(error)
        if known is None:
            raise
        prefix = "" if is_first() else f"process {place().rank}: "
        print(f"error: {prefix}{one_line(known)}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _leave_interrupted()
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning's way
            _leave_interrupted()
        raise


def _leave_interrupted() -> NoReturn:
    if is_first():
        print("interrupted", file=sys.stderr)
    sys.exit(130)


def one_line(error: UserError) -> str:
    """Return the message alone; one that crossed a loader process carries that process's traceback before it."""
    return str(error).rpartition("UserError: ")[2].strip()
