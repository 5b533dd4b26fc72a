"""Settings that a command takes over from the run it resumes or extends: ``train ckpt=RUN trainer.max_steps=1500``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.settings import Effect, key_of, setting_of

CONFIG_DIR = "--config-dir"


def with_settings_of_run(words: Sequence[str]) -> list[str]:
    """Return a training command's words, after those of the run that ``ckpt=PATH`` names where they choose no run themselves.

    They choose none if every setting among them may change without making another run. A note names the words that are
    taken over. A run without Hydra's record of them, or ``ckpt=last``, adds nothing.
    """
    ckpt = next((word.partition("=")[2].strip("'\"") for word in words if word.startswith("ckpt=")), "last")
    own = [word for word in words if _sets_something(word)]
    if ckpt in ("last", "null") or any(setting_of(key_of(word)).effect is Effect.DIFFERENT for word in own):
        return list(words)
    record = next((folder / ".hydra" for folder in _run_folders(Path(ckpt)) if (folder / ".hydra").is_dir()), None)
    if record is None:
        return list(words)
    changed = {key_of(word) for word in own} | {"ckpt", "paths.run_dir"}
    taken = [word for word in _read(record / "overrides.yaml", []) if key_of(word) not in changed]
    if taken:
        print(f"note: with the settings of {record.parent}: {' '.join(taken)}", file=sys.stderr)
    first = next(index for index, word in enumerate(words) if word in own)
    return [*words[:first], *_config_dirs(record, words), *taken, *words[first:]]


def _sets_something(word: str) -> bool:
    """Return whether a word changes a setting of the run, and not where Hydra looks or what it prints."""
    return ("=" in word or word[0] == "~") and word[0] != "-" and not key_of(word).startswith("hydra.")


def _run_folders(path: Path) -> list[Path]:
    """Return what may be the run folder of ``ckpt=path``."""
    return [path, path.parent, path.parent.parent]


def _config_dirs(record: Path, words: Sequence[str]) -> list[str]:
    """Return the words that add the run's folder of further choices, unless the command names its own."""
    if any(word.partition("=")[0] in (CONFIG_DIR, "-cd") for word in words):
        return []
    hydra = _read(record / "hydra.yaml", {}).get("hydra", {})
    sources = (hydra.get("runtime") or {}).get("config_sources") or []
    return [
        word for source in sources if source.get("provider") == "command-line" for word in (CONFIG_DIR, source["path"])
    ]


def _read(path: Path, default: Any) -> Any:  # noqa: ANN401 - what a YAML file holds
    try:
        content = yaml.safe_load(path.read_text()) if path.is_file() else default
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): give the run's settings again") from None
    return content if isinstance(content, type(default)) else default
