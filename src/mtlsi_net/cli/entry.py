"""The context of every entry point: errors become one line and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mtlsi_net.core.errors import find_user_error
from mtlsi_net.core.ranks import is_first, let_others_report, place


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
        # a loader process's traceback may stand before the message
        message = str(known).rpartition(f"{type(known).__name__}: ")[2].strip()
        print(f"error: {prefix}{message}", file=sys.stderr, flush=True)
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
