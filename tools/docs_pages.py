"""Pages of the documentation that follow from the code, and pictures of experiments, for ``make docs``.

They are written into ``docs/`` and not kept in git: ``reference/commands.md``, ``reference/groups.md``, ``reference/api/`` and
``pictures/``.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import mtlsi_net
from mtlsi_net.__main__ import commands
from mtlsi_net.cli.help import CONF, command_parts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = {
    "rooms_demo.jpg": "experiments/rooms_demo/val.jpg",
    "sheet.png": "experiments/rooms_bench/sheet.png",
    "probe_tasks.png": "experiments/probe_rooms/tasks.png",
    "label_share.png": "experiments/label_share/results/labels.png",
    "scaling.png": "experiments/scaling/growth/scaling.png",
    "compare_page.png": "experiments/compare_page/page.png",
}
"""Name in ``docs/pictures`` -> file of the repository."""

API = {
    "inference": ("Trained models", "Open what a run, `save_pretrained` or `export` left, and predict with it."),
    "models": ("Networks", "Whole networks, their blocks, encoders and the networks compared with."),
    "tasks": ("Tasks", "A task owns its channels, target, loss, metric and colours."),
    "metrics": ("Metrics", "Scores pooled over the data set; see [metrics](../metrics.md) for their names."),
    "engine": ("Building and weights", "From a configuration to a network and its tasks, and weights into a network."),
    "core": ("Types and errors", "What the other parts exchange."),
}
"""Package -> title of its page, and what is on it."""


def write_pages(docs: Path = DOCS) -> None:
    """Write all pages and pictures below ``docs``."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/groups.md": groups_page(),
        **{f"reference/api/{package}.md": page for package, page in api_pages()},
    }
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (docs / "pictures").mkdir(exist_ok=True)
    for name, source in PICTURES.items():
        shutil.copyfile(ROOT / source, docs / "pictures" / name)


def commands_page() -> str:
    """Return one section for each command: usage, groups and settings with their comments."""
    parts = [
        "# Commands",
        "`mtlsi-net train ...` is `python -m mtlsi_net.train ...`, and so for all others. Settings are `key=value`, groups "
        "are `group=choice` ([all choices](groups.md)); `--help` prints what this page says, and those settings of the chosen "
        "groups that one changes most: `mtlsi-net train experiment=nyud_vitl --help`.",
    ]
    for name, purpose in commands().items():
        usage, chosen, settings = command_parts(name)
        parts += [f"## {name}", f"{purpose}.", f"```text\n{usage}\n```"]
        if chosen:
            links = ", ".join(f"[`{group}={choice}`](groups.md#{anchor(group)})" for group, choice in chosen.items())
            parts.append(f"Groups: {links}.")
        if settings:
            parts.append("```yaml\n" + "\n\n".join(settings) + "\n```")
    return "\n\n".join(parts) + "\n"


def groups_page() -> str:
    """Return one section for each configuration group with its choices and their files."""
    groups = defaultdict(list)
    for file in sorted(CONF.rglob("[!_]*.yaml")):
        group = file.parent.relative_to(CONF).as_posix()
        if group != "." and not group.startswith("hydra/job_logging"):
            groups[group].append(file)
    parts = [
        "# Configuration groups",
        "`group=choice` takes one file of a group; files of your own in a folder given by `--config-dir` join them. "
        "`model=mtlsi model/fusion=identity` chooses inside a choice.",
    ]
    for group, files in sorted(groups.items()):
        parts += [f"## {group} {{ #{anchor(group)} }}", *map(choice_section, files)]
    return "\n\n".join(parts) + "\n"


def choice_section(file: Path) -> str:
    """Return a folded box with a choice's file; its title has the file's first comment, or its only line."""
    text = file.read_text().strip()
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    told = lines[0] if lines and (lines[0].startswith("# ") or len(lines) == 1) else ""
    title = f"{file.stem}: {told.removeprefix('# ')}".replace('"', "'").removesuffix(": ")
    body = "\n".join(f"    {line}".rstrip() for line in f"```yaml\n{text}\n```".splitlines())
    return f'??? note "{title}"\n{body}'


def anchor(group: str) -> str:
    """Return the name of a group's section in links."""
    return group.replace("/", "-")


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield package and page with the names of ``mtlsi_net.__all__`` that live in it."""
    homes = defaultdict(list)
    for name in mtlsi_net.__all__:
        module = getattr(mtlsi_net, name).__module__
        homes[module.split(".")[1]].append(f"{module}.{name}")
    for package, names in homes.items():
        title, purpose = API[package]
        sections = [f"::: {name}" for name in names]
        if package == "tasks":
            sections.append("## Losses\n\n::: mtlsi_net.tasks.losses\n    options:\n      show_root_heading: false")
        yield package, "\n\n".join([f"# {title}", purpose, *sections]) + "\n"


if __name__ == "__main__":
    write_pages()
