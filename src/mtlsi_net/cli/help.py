"""Help of a command, from the files in ``conf/``: usage, examples, groups with their choices, settings with their comments."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

CONF = Path(str(resources.files("mtlsi_net.conf")))
HELP = ("--help", "-h")
WIDTH = 120
COMMENT_COLUMN = 36

_MACHINE = ("accelerator", "devices", "precision")
_SCORED = ("root", "num_workers", "eval_batch_size", "dev_split", "allow_missing")
_ENCODING = ("files", "depth_scale", "zero_based", "palette", "binary_max")
SHOWN: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "data": (
            *("root", "size", "batch_size", "micro_batch", "num_workers", "augment", "max_train_images"),
            *("max_val_images", "label_share", "allow_missing", *_ENCODING),
        ),
        "backbone": ("pretrained", "weights_file", "drop_path_rate", "trainable"),
        "model": (
            *("width", "stride", "head_dim", "norm", "mask_padding", "distiller.tokens", "decoder.window"),
            *("target", "options", "weights_file", "normalize"),
        ),
        "optim": (
            *("optimizer._target_", "lr", "decoder_lr_factor", "layer_decay", "weight_decay", "warmup_steps"),
            "ema_decay",
        ),
        "trainer": ("max_steps", "val_check_interval", "gradient_clip_val", *_MACHINE),
    },
    "evaluate": {
        "data": (*_SCORED, *_ENCODING),
        "model": ("target", "options", "weights_file", "normalize"),
        "trainer": _MACHINE,
    },
    "probe": {"data": _SCORED, "trainer": _MACHINE},
    "score": {"data": ("root", "size", "dev_split", "allow_missing", *_ENCODING)},
    "verify_data": {"data": ("root", "size", *_ENCODING)},
    "download": {"data": ("root",), "source": ("archive", "mirrors")},
    "prepare": {"source": ("depth", "classes", "class_map", "crop")},
    "bench": {"data": ("root", "size", "num_workers")},
}
"""Command -> group -> settings of it that one changes; a choice without such a setting shows the others."""

FOOTER = """--cfg job shows the whole configuration as these words compose it; --hydra-help explains what Hydra itself can do.
"""


@dataclass(frozen=True)
class Setting:
    """The text of a value in a configuration file, and the comment behind it."""

    value: str
    comment: str = ""


def help_text(name: str, config_dirs: Sequence[str] = (), words: Sequence[str] = ()) -> str:
    """Return usage, examples, groups with their choices, and settings with their comments, of an entry point.

    Args:
        name: of the command.
        config_dirs: folders of further choices, as ``--config-dir`` names them.
        words: of the command line; the choices among them are the ones whose settings are shown.
    """
    folders = (CONF, *map(Path, config_dirs))
    known = defaultdict(list)
    for folder in folders:
        for file in sorted(folder.rglob("[!_]*.yaml")):
            known[file.parent.relative_to(folder).as_posix()].append(file.stem)
    usage, chosen, settings = command_parts(name)
    chosen, changed = _choose(folders, chosen, words)
    changed = _read(folders, ".", name)[1] | changed
    options = [group for group in known if group not in chosen and group.partition("/")[0] in chosen]
    lines = [f"{group}={chosen.get(group, '...')}: {', '.join(known[group])}" for group in (*chosen, *options)]
    parts = [usage]
    if lines:
        wrapped = (textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)
        parts.append("\n".join(["Groups, and what they are set to (group=choice):", "", *wrapped]))
    parts += ["Settings (key=value):", *settings]
    if of_groups := list(_group_lines(name, folders, chosen, changed)):
        parts += [
            "Settings of the chosen groups that one changes most (group.key=value; ??? must be given):",
            "\n".join(of_groups),
        ]
    return "\n\n".join([*parts, FOOTER])


def _choose(
    folders: Sequence[Path], defaults: Mapping[str, str], words: Iterable[str]
) -> tuple[dict[str, str], dict[str, Setting]]:
    """Return group -> choice with the choices of a command line, and the settings that its experiment changes."""
    pairs = (word.partition("=")[::2] for word in words)
    given = {group: choice for group, choice in pairs if group in defaults}
    chosen, changed = _experiment(folders, given.get("experiment", defaults.get("experiment", "null")))
    return {**defaults, **{group: choice for group, choice in chosen.items() if group in defaults}, **given}, changed


def _experiment(folders: Sequence[Path], name: str) -> tuple[dict[str, str], dict[str, Setting]]:
    """Return the choices that an experiment makes, and the settings that it changes; nothing if there is no such file."""
    defaults, own = _read(folders, "experiment", name)
    chosen: dict[str, str] = {}
    settings: dict[str, Setting] = {}
    for entry in defaults:
        if isinstance(entry, str) and entry != "_self_":
            more_chosen, more = _experiment(folders, entry)
            chosen, settings = chosen | more_chosen, settings | more
        elif isinstance(entry, dict):
            chosen |= {
                key.removeprefix("override /"): value for key, value in entry.items() if key.startswith("override /")
            }
    return chosen, settings | own


def _group_lines(
    command: str, folders: Sequence[Path], chosen: Mapping[str, str], changed: Mapping[str, Setting]
) -> Iterator[str]:
    """Yield ``group.key=value  # comment`` of the settings in ``SHOWN``."""
    for group, keys in SHOWN.get(command, {}).items():
        settings = group_settings(folders, group, chosen.get(group, "null"))
        for key in keys:
            if key not in settings:
                continue
            name, setting = f"{group}.{key}", settings[key]
            value = changed.get(name, setting).value
            line = f"{name}={value}"
            if comment := re.sub(r" ?\[our choice[^]]*\]", "", setting.comment):
                line = f"{line:{COMMENT_COLUMN - 1}} # {comment}"
            yield textwrap.fill(line, WIDTH, subsequent_indent=" " * COMMENT_COLUMN + "# ", break_on_hyphens=False)


def group_settings(folders: Sequence[Path], group: str, choice: str) -> dict[str, Setting]:
    """Return the settings of a group's choice, with those of the files that it builds on; empty if there is no such file.

    Keys are dotted. A value that overrides another keeps its comment if it has none itself.
    """
    defaults, own = _read(folders, group, choice)
    settings: dict[str, Setting] = {}
    for entry in [*defaults, *(["_self_"] if "_self_" not in defaults else [])]:
        if entry == "_self_":
            more = own
        elif isinstance(entry, str):
            more = group_settings(folders, group, entry)
        else:
            ((part, chosen),) = entry.items()
            more = {}
            if isinstance(chosen, str) and not part.startswith(("override ", "/")):
                nested = group_settings(folders, f"{group}/{part}", chosen)
                more = {f"{part}.{key}": setting for key, setting in nested.items()}
        for key, setting in more.items():
            before = settings.get(key, setting)
            settings[key] = Setting(setting.value, setting.comment or before.comment)
    return settings


def _read(folders: Sequence[Path], group: str, choice: str) -> tuple[list[Any], dict[str, Setting]]:
    """Return the defaults and the own settings of the first file of that name; nothing if there is none."""
    file = next((path for folder in folders if (path := folder / group / f"{choice}.yaml").is_file()), None)
    if file is None:
        return [], {}
    text = file.read_text()
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        return [], {}
    content = yaml.load(text, yaml.BaseLoader)  # BaseLoader: every value stays a string
    settings = dict(_flat(text, root))
    return content.get("defaults", []), {key: value for key, value in settings.items() if key != "defaults"}


def _flat(text: str, node: yaml.MappingNode, start: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield dotted key and setting of a mapping's values."""
    for key, value in node.value:
        name = f"{start}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _flat(text, value, f"{name}.")
            continue
        first, end = value.start_mark.index, value.end_mark.index
        comment = re.match(r"[ ,\]]*#\s*(.*)", text[end:].partition("\n")[0])
        yield name, Setting(text[first:end].strip(), comment[1].strip() if comment else "")


def command_parts(name: str) -> tuple[str, dict[str, str], list[str]]:
    """Return usage with examples, group -> choice, and texts of settings of a configuration file and of those it builds on."""
    text = (CONF / f"{name}.yaml").read_text()
    keys = [key for key, _ in yaml.compose(text).value]
    ends = [key.start_mark.index for key in keys[1:]] + [len(text)]
    chosen: dict[str, str] = {}
    settings: list[str] = []
    for entry in yaml.load(text, yaml.BaseLoader)["defaults"]:
        if isinstance(entry, dict):
            chosen |= {
                group.removeprefix("optional "): choice
                for group, choice in entry.items()
                if not group.startswith("override ")
            }
        elif entry != "_self_":
            _, inherited, texts = command_parts(entry)
            chosen |= inherited
            settings += texts
    own = "".join(
        text[key.start_mark.index : end]
        for key, end in zip(keys, ends, strict=True)
        if key.value not in ("defaults", "hydra")
    )
    usage = re.sub("^# ?", "", text[: keys[0].start_mark.index], flags=re.MULTILINE).strip()
    return usage, chosen, [*settings, own.strip()] if own else settings
