"""Files, commands and Python blocks that README and documentation show, for tests that run them."""

import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess

from helpers.commands import run_command

ROOT = Path(__file__).parents[2]
GENERATED = ("reference/commands.md", "reference/groups.md", "reference/api", "pictures")
"""Parts of ``docs/`` that ``make docs`` writes."""


def documents() -> list[Path]:
    """Return README and the pages of the documentation that are written by hand."""
    docs = ROOT / "docs"
    pages = [page for page in docs.rglob("*.md") if not page.relative_to(docs).as_posix().startswith(GENERATED)]
    return [ROOT / "README.md", *sorted(pages)]


DOCUMENTS = "\n".join(page.read_text() for page in documents())


def blocks(text: str, language: str) -> list[str]:
    """Return a text's code blocks of one language, without the indent of those in lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def documented_files() -> dict[str, str]:
    """Return path -> content of the code blocks that begin with a file's name."""
    files = [
        re.match(r"# (\S+\.(?:py|yaml))\n(.*)", block, re.DOTALL) for block in blocks(DOCUMENTS, "(?:yaml|python)")
    ]
    return {file[1]: file[2] for file in files if file}


def documented_command(beginning: str, **places: object) -> list[str]:
    """Return the only command ``python -m mtlsi_net.<beginning>...``, its /path/to/NAME replaced, without ``python -m``."""
    (line,) = set(
        re.findall(rf"^ *python -m (mtlsi_net\.{re.escape(beginning)}.*?) *(?:#.*)?$", DOCUMENTS, re.MULTILINE)
    )
    for name, place in places.items():
        assert f"/path/to/{name}" in line
        line = line.replace(f"/path/to/{name}", str(place))
    return shlex.split(line)


def run(cwd: Path, *arguments: str) -> "CompletedProcess[str]":
    """Run ``python -m`` in a folder."""
    return run_command(*arguments, cwd=cwd)
