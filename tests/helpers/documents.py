"""The README's files and commands, for tests that run them."""

import re
from pathlib import Path
from subprocess import CompletedProcess

from helpers.commands import run_command

README = (Path(__file__).parents[2] / "README.md").read_text()


def readme_files() -> dict[str, str]:
    """Return path -> content of the README's code blocks that begin with a file's name."""
    blocks = re.findall(r"^( *)```(?:yaml|python)\n\1# (\S+)\n(.*?)^\1```", README, re.MULTILINE | re.DOTALL)
    return {path: re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, path, text in blocks}


def readme_command(beginning: str, **places: object) -> list[str]:
    """Return the README's only command ``python -m mtlsi_net.<beginning>...``, its /path/to/NAME replaced."""
    (line,) = re.findall(rf"^ *python -m (mtlsi_net\.{re.escape(beginning)}.*)$", README, re.MULTILINE)
    for name, place in places.items():
        assert f"/path/to/{name}" in line
        line = line.replace(f"/path/to/{name}", str(place))
    return line.split()


def run(cwd: Path, *arguments: str) -> "CompletedProcess[str]":
    """Run ``python -m`` in a folder."""
    return run_command(*arguments, cwd=cwd)
