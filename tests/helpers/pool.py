"""A command whose pool computes for ten minutes: ``python -m helpers.pool outcomes|between``.

``between``: the command itself is busy with an outcome when a signal comes, with ``outcomes`` it waits for the next one.
"""

import os
import sys
import time
from pathlib import Path

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.core import signals
from mtlsi_net.core.parallel import map_in_processes


def work(index: int) -> int:
    """Return the first outcome at once, and compute the others for long."""
    if index:
        Path(f"worker {os.getpid()}").touch()
        time.sleep(300)
    return index


def main() -> None:
    """Take the outcomes."""
    signals.listen_until_exit()
    with user_errors():
        for _ in map_in_processes(work, range(5), workers=2, chunk=1):
            if sys.argv[1] == "between":
                time.sleep(300)


if __name__ == "__main__":
    main()
