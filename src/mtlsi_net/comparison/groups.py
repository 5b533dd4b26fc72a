"""Runs that differ in nothing but their seed, as one row."""

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from mtlsi_net.comparison.identity import Identity, identity_of
from mtlsi_net.comparison.runs import Left, Run

IGNORED = (
    "seed",
    "data.seed",
    "name",
    "sweep",
    "paths",
    "logger",
    "pictures",
    "checkpoint_every",
    "ckpt",
    "non_finite",
    "activation_checkpointing",
    "compile",
    "data.root",
    "data.cache_dir",
    "data.decoded_dir",
    "data.num_workers",
    "data.eval_batch_size",
    "data.max_train_scores",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.max_time",
)
"""Settings, and all below them, that do not tell two rows apart: seed, names, folders, loggers, the machine. Which data
``data.root`` holds is told by its digests."""

Key = tuple[str, str]
"""Task and metric."""

SHOWN_SETTINGS = 3


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, one for each seed.

    Attributes:
        label: what the table calls it.
        runs: at least one; their seeds differ.
        identity: of their data and rules.
    """

    label: str
    runs: tuple[Run, ...]
    identity: Identity

    @property
    def first(self) -> Run:
        """One of the runs, for what they have in common."""
        return self.runs[0]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted name -> value, without what is ignored."""
        return settings_of(self.first.config)

    def values(self, key: Key) -> list[float]:
        """Return each seed's score; empty if one has none."""
        task, metric = key
        found = [run.scores.get(task, {}).get(metric) for run in self.runs]
        return [] if None in found else [value for value in found if value is not None]

    def mean(self, key: Key) -> float:
        """Return the mean over seeds, NaN if one has no such score."""
        values = self.values(key)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, key: Key) -> float:
        """Return the standard deviation over seeds (n - 1), NaN of fewer than two."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted name -> value, lists as they are; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat configuration without ``IGNORED``."""
    return {name: value for name, value in flatten(config).items() if not _ignored(name)}


def _ignored(name: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in IGNORED)


def group_seeds(runs: Sequence[Run]) -> tuple[list[Group], list[Left]]:
    """Return groups in the order of their first run, and runs that repeat another's configuration and seed."""
    found: dict[str, dict[str, Run]] = {}
    identities: dict[str, Identity] = {}
    left = []
    for run in runs:
        identity = identity_of(run)
        key = json.dumps([settings_of(run.config), identity.common, identity.tasks], sort_keys=True, default=str)
        seeds, seed = found.setdefault(key, {}), str(run.config.get("seed"))
        identities[key] = identity
        if seed in seeds:
            left.append(Left(run.name, f"same settings, data and seed ({seed}) as {seeds[seed].name}: counted once"))
        else:
            seeds[seed] = run
    labels = _labels([next(iter(seeds.values())) for seeds in found.values()])
    groups = [
        Group(label, tuple(seeds.values()), identities[key])
        for label, (key, seeds) in zip(labels, found.items(), strict=True)
    ]
    return _distinguish(groups), left


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return each configuration's name and what its command changed, but for what all commands did."""
    words = [_overrides(run) for run in runs]
    common = set.intersection(*map(set, words)) if words else set()
    names = (str(run.config.get("name", "run")) for run in runs)
    return [" ".join([name, *(w for w in own if w not in common)]) for name, own in zip(names, words, strict=True)]


def _overrides(run: Run) -> list[str]:
    """Return what the command line set, as Hydra kept it, else as the recorded command of a single run has it."""
    kept = run.folder.root / ".hydra" / "overrides.yaml"
    words: Any = []
    try:
        words = yaml.safe_load(kept.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        words = _arguments(str(run.record.get("command", "")))
    if not isinstance(words, list):
        return []
    told = [str(word) for word in words if not str(word).startswith("experiment=")]
    return [word for word in told if not _ignored(word.lstrip("+~").partition("=")[0])]


def _arguments(command: str) -> list[str]:
    """Return the settings of ``python -m module KEY=VALUE ...``; none of a sweep, whose jobs each had others."""
    try:
        words = shlex.split(command)[3:]
    except ValueError:
        return []
    return [] if {"-m", "--multirun"} & set(words) else [word for word in words if "=" in word or word[:1] == "~"]


def _distinguish(groups: list[Group]) -> list[Group]:
    """Return the groups with labels that differ: equal ones are told apart by their settings, or numbered."""
    firsts: dict[str, Group] = {}
    taken: set[str] = set()
    named = []
    for group in groups:
        first = firsts.setdefault(group.label, group)
        label = group.label
        if first is not group:
            changed = [_told(*change) for change in changed_settings(first.settings, group.settings)]
            changed = sorted(changed, key=lambda word: word[0] == "~")  # what it has comes before what it lacks
            told = changed[:SHOWN_SETTINGS] + ["..."] * (len(changed) > SHOWN_SETTINGS)
            label = " ".join([label, *(told or ["(other data)"])])
        number = 2
        while label in taken:
            label, number = f"{label.partition(' #')[0]} #{number}", number + 1
        taken.add(label)
        named.append(replace(group, label=label))
    return named


def _told(name: str, _: Any, value: Any) -> str:  # noqa: ANN401 - any setting
    """Return a changed setting as a command would set it, of a class its bare name."""
    if value is None:
        return f"~{name}"
    path, _, last = name.rpartition(".")
    return f"{path}={str(value).rpartition('.')[2]}" if last == "_target_" else f"{name}={value}"


def changed_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, ours, theirs) of every setting that differs; None where one has no such setting."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]
