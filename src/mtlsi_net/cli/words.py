"""Words of a command line in Hydra's grammar: quotes around paths and names, unset groups, one-line errors."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from mtlsi_net.core.errors import UserError

MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
VALUED_OPTIONS = (
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p"),
    *("--info", "-i", "--cfg", "-c", "--experimental-rerun"),
)
"""Options of Hydra whose value may be the next word."""

READ = (
    *(
        "archive",
        "ckpt",
        "class_map",
        "data_dir",
        "file",
        "gt",
        "ids",
        "init_from",
        "input",
        "labels",
        "manifest",
        "mirrors",
    ),
    *("palette", "pred", "root", "runs", "weights_file"),
)
WRITTEN = (
    *("cache_dir", "decoded_dir", "default_root_dir", "dir", "dirpath", "name", "out", "output_dir", "path"),
    *("run_dir", "save_dir", "sweep"),
)
"""Last parts of the keys whose values are paths, or names of folders; a written one may be new."""
LISTS = ("runs", "mirrors")
FILES = "data.files."
"""Start of the keys whose values are a folder and a suffix, in a list."""
NO_PATHS = ("model.options.", "task_weights.", "optim.")
"""Starts of keys whose values are arguments of other people's code, whatever the name."""
OPTIONAL = ("logger",)
"""Groups that a command can do without, though it has a default."""
SWEEPS = re.compile(r"\s*(choice|range|interval|glob|shuffle|sort|tag)\(.*\)\s*", re.DOTALL)


def hydra_words(words: Iterable[str], groups: Mapping[str, str]) -> list[str]:
    """Return a command line that Hydra reads as its user meant it.

    Paths and names with characters of Hydra's grammar are put in quotes, ``~`` is expanded; ``group=null`` leaves the group
    out. With ``-m`` commas separate the choices of a sweep. All else stays as it is.

    Args:
        words: of the command line.
        groups: group -> default choice of the command, ``null`` for none.

    Raises:
        UserError: a word is no setting of the form ``key=value``.
    """
    words = list(words)
    sweep = any(word in MULTIRUN for word in words)
    result = []
    before = ""
    for word in words:
        if word.startswith("-") or before in VALUED_OPTIONS:
            result.append(word)
        else:
            result += [
                _checked(_quoted(_with_choice(changed, groups), sweep)) for changed in _without_group(word, groups)
            ]
        before = word
    return result


def _without_group(word: str, groups: Mapping[str, str]) -> list[str]:
    """Return the word, or what stands for ``group=null``, which Hydra does not take."""
    key, _, value = word.partition("=")
    group = key.lstrip("+")
    if value != "null" or group not in groups:
        return [word]
    if groups[group] in ("null", "[]"):
        return []
    if group not in OPTIONAL:
        raise UserError(f"{word}: a {group} is needed; leave this out for {group}={groups[group]}")
    return [f"~{group}"]


def _with_choice(word: str, groups: Mapping[str, str]) -> str:
    """Return the word; a number as a group's choice is a name."""
    key, _, value = word.partition("=")
    return f"{key}='{value}'" if key.lstrip("+") in groups and isinstance(_parsed(value), int | float) else word


def _checked(word: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        if not equals:
            raise UserError(f"{word!r} is not a setting; settings have the form key=value") from None
        advice = "put texts with such characters in quotes"
        if not value.startswith(("[", "{", "'", '"')):
            escaped = value.replace("'", r"\'")
            advice += f", as in \"{key}='{escaped}'\""
        raise UserError(f"{word} has special characters where they have another meaning; {advice}") from None
    return word


def _quoted(word: str, sweep: bool) -> str:
    """Return ``key=value`` with quotes where the value is a path or name that Hydra would take for something else."""
    key, equals, value = word.partition("=")
    path = key.lstrip("+")
    name = path.rpartition(".")[2]
    is_list = name in LISTS or path.startswith(FILES)
    if not (is_list or name in (*READ, *WRITTEN)) or path.startswith(("~", *NO_PATHS)):
        return word
    if not equals or value in ("", "null"):
        return word
    if sweep and SWEEPS.fullmatch(value) and _parsed(value) is not None:
        return word
    parts = _split(value) if sweep else [value]
    return f"{key}={','.join(_quoted_path(part, name in WRITTEN, is_list) for part in parts)}"


def _quoted_path(text: str, written: bool, is_list: bool) -> str:
    """Return one path as Hydra reads it back; ``written``: even one in brackets that does not exist is a path."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if not text:
        return text
    exists = os.path.lexists(text)
    parsed = _parsed(text)
    if isinstance(parsed, str) and text[0] in "'\"" and not exists:
        return text  # in quotes
    if text.startswith("[") and text.endswith("]") and is_list and not exists:
        inside = text[1:-1].strip()
        parts = [inside] if os.path.lexists(inside) else _split(inside)
        return f"[{','.join(_quoted_path(part.strip(), written, False) for part in parts)}]"
    if isinstance(parsed, list | dict) and not (exists or written):
        return text  # which the check of its kind refuses
    path = os.path.expanduser(text) if text.startswith("~") and not exists else text
    if isinstance(parsed, str) and parsed == path and not ("${" in path and exists):
        return text
    if exists:
        path = re.sub(r"(\\*)\$\{", r"\1\1\\${", path)  # no interpolation
    return QuotedString(text=path, quote=Quote.single).with_quotes()


def _parsed(text: str) -> object:
    """Return the value that Hydra reads; None if it cannot read it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return None


def _split(text: str) -> list[str]:
    """Return the parts between commas outside quotes and brackets."""
    return list(_parts(text)) if text else []


def _parts(text: str) -> Iterator[str]:
    part, quote, depth = "", "", 0
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and not text[:position].endswith("\\") else quote
        elif letter in "'\"" and not part.strip(" ["):
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth = max(0, depth - 1)
        if letter == "," and not quote and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part
