"""Check that every word of a command line has an effect: misspelt additions (``+foo=1``) and settings that nothing reads."""

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core.errors import UserError, nearest_names
from mtlsi_net.core.settings import key_of

OBJECTS = ("callbacks", "logger", "tasks")
"""Groups whose entries are objects, each with a ``_target_``."""


def check_words(command: str, cfg: DictConfig) -> None:
    """Raise a UserError for a word of the command line that has no effect.

    What is added to the arguments of a class is checked with the class (``core.config.check_options``). Settings that are
    named in configuration files of the user, which may read them, are accepted.
    """
    job = HydraConfig.get()
    words = {_key(word): word for word in job.overrides.task if _key(word) not in job.runtime.choices}
    for key, word in words.items():
        if word.startswith("+"):
            _check_added(command, cfg, job, key)
    if command == "train":
        _check_read(cfg, words, set(map(_key, job.overrides.task)))


def _key(word: str) -> str:
    return key_of(word).partition("@")[0]


def _check_added(command: str, cfg: DictConfig, job: HydraConf, key: str) -> None:
    top, _, rest = key.partition(".")
    known = _settings_of(command) | {str(group).partition("/")[0].partition("@")[0] for group in job.runtime.choices}
    if (top not in known or top == "paths") and not _is_named_by_user(job, rest or top):
        near = nearest_names(top, known) if top not in known else nearest_names(rest, _read_own("paths/default.yaml"))
        raise UserError(f"+{key} is no setting of {command}: nothing reads it; {near}")
    name = rest.partition(".")[0]
    if command != "train" or top not in OBJECTS or not name:
        return
    node = OmegaConf.select(cfg, f"{top}.{name}")
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(
            f"+{key}: {top}.{name} has no class, so that nothing reads it; give +{top}.{name}._target_=... too, or choose a "
            f"file that has it, as in {'callbacks=[default,early_stopping]' if top == 'callbacks' else f'{top}=...'}"
        )


def _settings_of(command: str) -> set[str]:
    """Return the top-level settings of a command's own files."""
    content = _read_own(f"{command}.yaml")
    entries: Any = content.get("defaults", [])
    groups = {
        str(group).split()[-1].lstrip("/").partition("@")[0] for e in entries if isinstance(e, dict) for group in e
    }
    inherited = [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
    known = {*content, *(group.partition("/")[0] for group in groups), "tasks", "hydra"}
    return known.union(*(_settings_of(name) for name in inherited)) - {"defaults"}


def _read_own(name: str) -> dict[str, object]:
    text = (resources.files("mtlsi_net.conf") / name).read_text()
    content: dict[str, object] = yaml.load(text, yaml.BaseLoader)
    return content


def _is_named_by_user(job: HydraConf, name: str) -> bool:
    """Return whether a configuration file outside this package names a setting."""
    pattern = re.compile(rf"\b{re.escape(name.rpartition('.')[2])}\b")
    return any(pattern.search(text) for text in _files_of_user(job))


def _files_of_user(job: HydraConf) -> Iterator[str]:
    for source in job.runtime.config_sources:
        if source.provider in ("hydra", "main", "schema"):
            continue
        folder = Path(str(resources.files(source.path))) if source.schema == "pkg" else Path(source.path)
        for file in folder.rglob("*.yaml"):
            yield file.read_text(errors="replace")


def _check_read(cfg: DictConfig, words: Mapping[str, str], keys: set[str]) -> None:
    """Check words of ``train`` that another setting makes useless."""
    prefix = "task_weights.weights."
    for key in words:
        task = key.removeprefix(prefix)
        if key.startswith(prefix) and task not in cfg.tasks:
            raise UserError(
                f"{key} has no effect: no task {task} is trained; {nearest_names(task, map(str, cfg.tasks))}"
            )
    backbone = sorted(key for key in keys if key.partition(".")[0] == "backbone")
    external = str(OmegaConf.select(cfg, "model._target_")).endswith(".ExternalNetwork")
    if backbone and external and cfg.get("backbone") is not None:
        raise UserError(f"{backbone[0]} has no effect: model=external brings its own encoder; leave it out")
