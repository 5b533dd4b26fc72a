"""What two runs must share: data and rules to be compared, and all settings but the seed to be one row."""

import json
import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from mtlsi_net.comparison.read import Run, SkippedRun, entry
from mtlsi_net.core.io import flatten
from mtlsi_net.core.settings import setting_of

UNKNOWN = "not known"
IDENTIFIED = "told by digests"

SHOWN_SETTINGS = 3
"""Settings that a label names to tell a row from another."""

Identity = dict[tuple[str, str], str]
"""(what, task) -> value: the data and rules of scores; the task is empty for what concerns all tasks."""


def identity_of(run: Run) -> Identity:
    """Return what a run's record says; what it does not say is not known, and equals nothing known."""
    record = run.record
    names = ("lists", "image", *run.tasks)
    digests = {name: str(entry(record, "data", "parts", name, default=UNKNOWN)) for name in names}
    known = UNKNOWN not in digests.values() and "protocol" in record
    scale = entry(record, "data", "scale", default=entry(run.config, "data", "scale", default=UNKNOWN))
    identity = {
        ("protocol", ""): str(record.get("protocol", UNKNOWN)),
        ("scored images", ""): run.stage,
        ("scale", ""): str(scale),
        ("split lists", ""): digests["lists"],
        ("images", ""): digests["image"],
        ("data folder", ""): IDENTIFIED if known else str(entry(run.config, "data", "root", default=UNKNOWN)),
    }
    for task in run.tasks:
        identity["labels", task] = digests[task]
        identity["metric", task] = json.dumps(entry(record, "metrics", task, default=UNKNOWN), sort_keys=True)
    return identity


def identity_differences(ours: Identity, theirs: Identity, task: str = "") -> list[str]:
    """Return in words what differs in the tasks that both have, or in one of them; empty if scores can be compared."""
    return sorted(
        f"{what}{own and f' of {own}'} ({_short(ours[what, own])} against {_short(theirs[what, own])})"
        for what, own in ours.keys() & theirs.keys()
        if own in ("", task or own) and ours[what, own] != theirs[what, own]
    )


def _short(value: str) -> str:
    """Return a value for a message, of a digest its beginning."""
    return value[:8] if re.fullmatch("[0-9a-f]{64}", value) else value


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return statistics.fmean(values) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation (n - 1), NaN of fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with different seeds, at least one, and what the table calls them."""

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

    @property
    def known(self) -> bool:
        """Whether the record identifies the data."""
        return self.identity["data folder", ""] == IDENTIFIED

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted name -> value, without those in which seeds may differ."""
        return settings_of(self.first.config)

    def values(self, name: str) -> list[float]:
        """Return each seed's score ``task/metric``; empty if one has none."""
        scores = [run.scores.get(name) for run in self.runs]
        return [] if None in scores else [value for value in scores if value is not None]


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat configuration without settings in which runs of a row may differ, and without nulls.

    Null stands for settings that earlier versions did not have.
    """
    flat = flatten(config).items()
    return {name: value for name, value in flat if value is not None and not setting_of(name).same_row}


def group_seeds(runs: Sequence[Run]) -> tuple[list[Group], list[SkippedRun]]:
    """Return groups in the order of their first run, and runs that repeat another's configuration and seed."""
    groups: dict[str, dict[str, Run]] = {}
    skipped = []
    for run in runs:
        identity = sorted(identity_of(run).items())
        key = json.dumps([settings_of(run.config), identity], sort_keys=True, default=str)
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
    words: Any
    try:
        words = yaml.safe_load((run.folder.root / ".hydra" / "overrides.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        words = _arguments(str(run.record.get("command", "")))
    if not isinstance(words, list):
        return []
    names = {str(word): str(word).lstrip("+~").partition("=")[0] for word in words}
    return [word for word, name in names.items() if name != "experiment" and not setting_of(name).same_row]


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


def main_metrics(groups: Sequence[Group]) -> dict[str, bool]:
    """Return ``task/metric`` of the groups' main metrics -> higher is better."""
    return {name: higher for group in groups for name, higher in group.first.main.items()}


def split_groups(groups: Sequence[Group]) -> list[tuple[list[Group], list[str]]]:
    """Return the groups whose scores can be compared, and what tells them from the first ones, in words.

    A group joins the first ones that it differs from in nothing.
    """
    tables: list[tuple[list[Group], list[str]]] = []
    for group in groups:
        differs = [[identity_differences(other.identity, group.identity) for other in own] for own, _ in tables]
        fitting = next((own for (own, _), told in zip(tables, differs, strict=True) if not any(told)), None)
        if fitting is not None:
            fitting.append(group)
        else:
            tables.append(([group], next(filter(None, differs[0]), []) if tables else []))
    return tables
