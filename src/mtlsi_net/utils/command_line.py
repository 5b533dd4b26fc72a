"""What every command does before Hydra: its help, and names of tasks that are no group."""

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path

from mtlsi_net.utils.heap import keep_freed_memory

HELP = ("--help", "-h")
CONFIG_DIR = ("--config-dir", "-cd")
WIDTH = 120
USES = ("predict", "export", "demo")
"""Commands that take a trained model: ``tasks=`` names some of its own."""

FOOTER = """
--cfg job shows the whole configuration as these words compose it; --hydra-help explains what Hydra itself can do.
"""


def run_command(name: str, main: Callable[[], object]) -> None:
    """Run an entry point on this process's command line.

    ``--help`` is answered from the configuration files, comments and all: Hydra would take seconds to load each of them, and
    show none of the comments.

    Args:
        name: of the entry point and of its file in ``conf/``.
        main: decorated by Hydra.
    """
    if any(word in HELP for word in sys.argv[1:]):
        words = sys.argv[1:]
        print(help_text(name, [after for word, after in pairwise(words) if word in CONFIG_DIR]))
        return
    if name in USES:
        sys.argv[1:] = tasks_as_names(sys.argv[1:])
    keep_freed_memory()
    main()


def tasks_as_names(words: Sequence[str]) -> list[str]:
    """Return a command line in which ``tasks=[depth,normals]`` names tasks to ``keep``.

    Hydra would look for files of these names in the group ``tasks``, which chooses what is trained.
    """
    return [f"keep={word[6:]}" if word.startswith("tasks=") else word for word in words]


def help_text(name: str, config_dirs: Sequence[str] = ()) -> str:
    """Return usage, groups with their choices, and settings with their comments, of an entry point.

    ``config_dirs`` are folders of further choices, as ``--config-dir`` names them.
    """
    conf = resources.files("mtlsi_net.conf")
    known = groups(conf)
    for folder in config_dirs:
        for group, choices in groups(Path(folder)).items() if Path(folder).is_dir() else ():
            known[group] = [*known.get(group, ()), *choices]
    usage, chosen, settings = _read(conf, name)
    lines = [f"{group}={value}: {', '.join(known[group])}" for group, value in chosen.items() if known.get(group)]
    lines += [
        f"{group}=...: {', '.join(choices)}"
        for group, choices in known.items()
        if group.partition("/")[0] in chosen and group not in chosen and choices
    ]
    parts = [usage]
    if lines:
        wrapped = (textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)
        parts.append("\n".join(["Groups, and what they are set to (group=choice):", "", *wrapped]))
    parts.append(f"Settings (key=value):\n\n{settings}")
    return "\n\n".join(parts) + "\n" + FOOTER


def _read(conf: Traversable, name: str) -> tuple[str, dict[str, str], str]:
    """Return usage, group -> choice, and settings of a configuration file and of those it builds on."""
    usage, _, rest = conf.joinpath(f"{name}.yaml").read_text().partition("defaults:\n")
    defaults, _, own = rest.partition("\n\n")
    chosen: dict[str, str] = {}
    settings: list[str] = []
    for base in re.findall(r"^ +- (\w+)$", defaults, re.MULTILINE):
        if base == "_self_":
            continue
        _, more, text = _read(conf, base)
        chosen |= more
        settings += [text] * bool(text)
    chosen |= re.findall(r"^ +- (?!override)([\w/]+): *(.+?) *(?:#.*)?$", defaults, re.MULTILINE)
    without_hydra = re.sub(r"^hydra:\n(?: .*\n|\n)*", "", f"{own}\n", flags=re.MULTILINE).strip()
    settings += [without_hydra] * bool(without_hydra)
    return re.sub(r"^# ?", "", usage, flags=re.MULTILINE).rstrip(), chosen, "\n\n".join(settings)


def groups(folder: Traversable | Path, path: str = "") -> dict[str, list[str]]:
    """Return group -> its choices, of all folders of configuration files; files that begin with _ are not to be chosen."""
    found: dict[str, list[str]] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.is_dir() or entry.name.startswith("_"):
            continue
        own = f"{path}{entry.name}"
        names = sorted(file.name for file in entry.iterdir())
        found[own] = [
            file.removesuffix(".yaml") for file in names if file.endswith(".yaml") and not file.startswith("_")
        ]
        found |= groups(entry, f"{own}/")
    return found
