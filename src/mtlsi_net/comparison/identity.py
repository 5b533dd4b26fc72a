"""What two runs must share: data and rules to be compared, and all settings but the seed to be one row."""

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from mtlsi_net.comparison.read import Run, SkippedRun, entry

UNKNOWN = "not known"

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
"""Settings that a label names to tell a row from another."""


@dataclass(frozen=True)
class Identity:
    """Data and rules of a run's scores.

    Attributes:
        common: what concerns all tasks: protocol, stage, scale, and digests of the split lists and the images.
        tasks: task -> digest of its label files, and the rules of its metric.
        known: whether the record identifies the data; if not, ``common`` holds its folder instead.
    """

    common: dict[str, str]
    tasks: dict[str, dict[str, str]]
    known: bool

    def only(self, task: str) -> "Identity":
        """Return the identity of one task's scores alone."""
        return replace(self, tasks={task: self.tasks[task]})

    def differences(self, other: "Identity") -> list[str]:
        """Return in words what differs, in the tasks that both have; empty if their scores can be compared."""
        different = _differences(self.common, other.common, "")
        for task in self.tasks.keys() & other.tasks.keys():
            different += _differences(self.tasks[task], other.tasks[task], f" of {task}")
        return sorted(different)


def identity_of(run: Run) -> Identity:
    """Return what a run's record says; what it does not say is not known, and equals nothing known."""
    record, root = run.record, entry(run.config, "data", "root", default=UNKNOWN)
    digests = {
        name: str(entry(record, "data", "parts", name, default=UNKNOWN)) for name in ("lists", "image", *run.scores)
    }
    scale = entry(record, "data", "scale", default=entry(run.config, "data", "scale", default=UNKNOWN))
    common = {
        "protocol": str(record.get("protocol", UNKNOWN)),
        "scored images": run.stage,
        "scale": str(scale),
        "split lists": digests["lists"],
        "images": digests["image"],
    }
    known = UNKNOWN not in digests.values() and "protocol" in record
    if not known:
        common["data folder"] = str(root)
    rules = {task: entry(record, "metrics", task, default=UNKNOWN) for task in run.scores}
    tasks = {task: {"labels": digests[task], "metric": json.dumps(rules[task], sort_keys=True)} for task in run.scores}
    return Identity(common, tasks, known)


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str], where: str) -> list[str]:
    return [
        f"{key}{where} ({_short(ours.get(key, UNKNOWN))} against {_short(theirs.get(key, UNKNOWN))})"
        for key in ours.keys() | theirs.keys()
        if ours.get(key) != theirs.get(key)
    ]


def _short(value: str) -> str:
    """Return a value for a message, of a digest its beginning."""
    digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value[:8] if digest else value


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, one for each seed.

    Attributes:
        label: what the table calls it.
        runs: at least one; their seeds differ.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """One of the runs, for what they have in common."""
        return self.runs[0]

    @cached_property
    def identity(self) -> Identity:
        """Of the runs' data and rules."""
        return identity_of(self.first)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted name -> value, without what is ignored."""
        return settings_of(self.first.config)

    def values(self, key: Key) -> list[float]:
        """Return each seed's score; empty if one has none."""
        task, metric = key
        scores = [run.scores.get(task, {}).get(metric) for run in self.runs]
        return [] if None in scores else [value for value in scores if value is not None]

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
    return {name: value for name, value in flatten(config).items() if not within(name, IGNORED)}


def within(name: str, keys: Sequence[str]) -> bool:
    """Return whether a setting is one of ``keys`` or below one."""
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def group_seeds(runs: Sequence[Run]) -> tuple[list[Group], list[SkippedRun]]:
    """Return groups in the order of their first run, and runs that repeat another's configuration and seed."""
    groups: dict[str, dict[str, Run]] = {}
    skipped = []
    for run in runs:
        identity = identity_of(run)
        key = json.dumps([settings_of(run.config), identity.common, identity.tasks], sort_keys=True, default=str)
        seeds, seed = groups.setdefault(key, {}), str(run.config.get("seed"))
        first = seeds.setdefault(seed, run)
        if first is not run:
            skipped.append(SkippedRun(run.name, f"same settings, data and seed ({seed}) as {first.name}: counted once"))
    members = [tuple(seeds.values()) for seeds in groups.values()]
    labels = _labels([own[0] for own in members])
    return _distinguish([Group(label, own) for label, own in zip(labels, members, strict=True)]), skipped


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
    settings = [str(word) for word in words if not str(word).startswith("experiment=")]
    return [word for word in settings if not within(word.lstrip("+~").partition("=")[0], IGNORED)]


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
            changed = [_as_override(*change) for change in changed_settings(first.settings, group.settings)]
            changed = sorted(changed, key=lambda word: word[0] == "~")  # what it has comes before what it lacks
            shown = changed[:SHOWN_SETTINGS] + ["..."] * (len(changed) > SHOWN_SETTINGS)
            label = " ".join([label, *(shown or ["(other data)"])])
        number = 2
        while label in taken:
            label, number = f"{label.partition(' #')[0]} #{number}", number + 1
        taken.add(label)
        named.append(replace(group, label=label))
    return named


def _as_override(name: str, _: Any, value: Any) -> str:  # noqa: ANN401 - any setting
    """Return a changed setting as a command would set it, of a class its bare name."""
    if value is None:
        return f"~{name}"
    path, _, last = name.rpartition(".")
    return f"{path}={str(value).rpartition('.')[2]}" if last == "_target_" else f"{name}={value}"


def changed_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, ours, theirs) of every setting that differs; None where one has no such setting."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]


def main_metrics(groups: Sequence[Group]) -> dict[Key, bool]:
    """Return (task, metric) of the groups' main metrics -> higher is better."""
    return {(task, metric): higher for group in groups for task, (metric, higher) in group.first.main.items()}


def split_groups(groups: Sequence[Group]) -> list[tuple[list[Group], list[str]]]:
    """Return the groups whose scores can be compared, and what tells them from the first ones, in words.

    A group joins the first ones that it differs from in nothing.
    """
    tables: list[tuple[list[Group], list[str]]] = []
    for group in groups:
        fitting = (own for own, _ in tables if not any(group.identity.differences(other.identity) for other in own))
        members = next(fitting, None)
        if members is None:
            differs = [other.identity.differences(group.identity) for own, _ in tables[:1] for other in own]
            tables.append(([group], next(filter(None, differs), [])))
        else:
            members.append(group)
    return tables
