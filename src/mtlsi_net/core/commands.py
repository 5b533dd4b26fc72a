"""Command lines that messages name, for the next step after a command."""

import shlex
import sys
from collections.abc import Iterator, Sequence

from mtlsi_net.core.settings import key_of

PHOTOS = "input=IMAGE_OR_FOLDER"


def command_line(module: str, *words: str) -> str:
    """Return ``python -m mtlsi_net.<module>`` with words, in quotes where a shell needs them."""
    return shlex.join(["python", "-m", f"mtlsi_net.{module}", *words])


def compare_line(folder: object) -> str:
    """Return the command that compares a run folder with another one."""
    return f"{command_line('compare')} runs={shlex.quote(f'[{folder},OTHER_RUN]')}"


def data_words(line: Sequence[str] | None = None) -> list[str]:
    """Return the words of a command line, by default this process's, that choose data and tasks."""
    return list(_data_words(sys.orig_argv if line is None else line))


def _data_words(line: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in line:
        key = key_of(word).partition(".")[0].partition("@")[0]
        if before in ("--config-dir", "-cd"):
            yield from (before, word)
        elif key in ("data", "task_set", "tasks") or word.startswith("--config-dir="):
            yield word
        before = word
