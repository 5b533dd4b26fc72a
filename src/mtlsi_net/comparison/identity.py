"""Identity of runs: data and rules that compared runs share, and groups of runs that differ only in the seed."""

import json
import math
import re
import shlex
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import yaml

from mtlsi_net.comparison.read import Run, SkippedRun, entry
from mtlsi_net.core.io import flatten
from mtlsi_net.core.settings import is_among, key_of, setting_in, setting_of

UNKNOWN = "unknown"
IDENTIFIED = "identified by digests"

SHOWN_SETTINGS = 3
"""Most settings that a label lists to distinguish a row from another."""

Identity = dict[tuple[str, str], str]
"""(what, task) -> value: the data and rules of scores; the task is empty for what concerns all tasks."""


def identity_of(run: Run) -> Identity:
    """Return what a run's record says; the value of what it does not say is ``UNKNOWN``, which differs from every known one."""
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


def identity_differences(first: Identity, second: Identity, task: str = "") -> list[str]:
    """Return in words what differs in the tasks that both have, or in one of them; empty if scores can be compared."""
    return sorted(
        f"{what}{name and f' of {name}'} ({_short(first[what, name])} against {_short(second[what, name])})"
        for what, name in first.keys() & second.keys()
        if name in ("", task or name) and first[what, name] != second[what, name]
    )


def _short(value: str) -> str:
    """Return a value for a message; digests are shortened."""
    return value[:8] if re.fullmatch("[0-9a-f]{64}", value) else value


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return statistics.fmean(values) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation (n - 1), NaN of fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def seed_of(run: Run) -> int:
    """Return a run's seed, 0 if it is not known."""
    seed = run.config.get("seed")
    return seed if isinstance(seed, int) and seed >= 0 else 0


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
        """The data and rules that the runs share."""
        return identity_of(self.first)

    @property
    def seeds(self) -> list[int]:
        """Each run's seed."""
        return list(map(seed_of, self.runs))

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
    return {name: value for name, value in flat if value is not None and not setting_in(config, name).same_row}


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
            skipped.append(SkippedRun(run.name, f"same settings, data and seed ({seed}) as {first.name}; counted once"))
    members = [tuple(seeds.values()) for seeds in groups.values()]
    labels = _labels([runs[0] for runs in members])
    named = _distinguish([Group(label, runs) for label, runs in zip(labels, members, strict=True)])
    return _without_shared_name(named), skipped


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return each configuration's name and the overrides of its command that not all commands have."""
    words = [_overrides(run) for run in runs]
    common = set.intersection(*map(set, words)) if words else set()
    names = map(_name, runs)
    return [
        " ".join([name, *(w for w in run_words if w not in common)])
        for name, run_words in zip(names, words, strict=True)
    ]


def _overrides(run: Run) -> list[str]:
    """Return the command line's overrides, from Hydra's file, else from the recorded command of a single run.

    Those of an evaluation come after those of the training, where its record has them.
    """
    trained = _arguments(str(entry(run.record, "trained", "command") or ""))
    words: Any
    try:
        words = yaml.safe_load((run.folder.root / ".hydra" / "overrides.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        words = _arguments(str(run.record.get("command", "")))
    if not isinstance(words, list):
        return []
    names = {str(word): key_of(str(word)) for word in [*trained, *words]}
    return [word for word, name in names.items() if name != "experiment" and not setting_of(name).same_row]


def _arguments(command: str) -> list[str]:
    """Return the settings of ``python -m module KEY=VALUE ...``; none for a sweep, whose jobs had different ones."""
    try:
        words = shlex.split(command)[3:]
    except ValueError:
        return []
    return [] if {"-m", "--multirun"} & set(words) else [word for word in words if "=" in word or word[:1] == "~"]


def _distinguish(groups: list[Group]) -> list[Group]:
    """Return the groups with unique labels: settings, or numbers, distinguish equal ones."""
    firsts: dict[str, Group] = {}
    taken: set[str] = set()
    named = []
    for group in groups:
        first = firsts.setdefault(group.label, group)
        label = group.label
        if first is not group:
            there = flatten(group.first.config)
            words = [_as_override(*change, there) for change in changed_settings(first.settings, group.settings)]
            changed = sorted(dict.fromkeys(words), key=lambda word: word[0] == "~")  # what it removes comes last
            shown = changed[:SHOWN_SETTINGS] + ["..."] * (len(changed) > SHOWN_SETTINGS)
            label = " ".join([label, *(shown or ["(other data)"])])
        number = 2
        while label in taken:
            label, number = f"{label.partition(' #')[0]} #{number}", number + 1
        taken.add(label)
        named.append(replace(group, label=label))
    return named


def _without_shared_name(groups: list[Group]) -> list[Group]:
    """Return the groups without the name in labels that say more, if all have the same: rows are named by what differs."""
    names = {_name(group.first) for group in groups}
    if len(names) != 1:
        return groups
    start = f"{names.pop()} "
    rest = [group.label.removeprefix(start) for group in groups]
    return [
        replace(group, label=label if label[0] not in "#(" else group.label)
        for group, label in zip(groups, rest, strict=True)
    ]


def _name(run: Run) -> str:
    return str(run.config.get("name", "run"))


def _as_override(name: str, _: Any, value: Any, there: Collection[str]) -> str:  # noqa: ANN401 - any setting
    """Return a changed setting as an override; a class is given by its bare name, what is not ``there`` as a whole."""
    if value is None:
        nodes = accumulate(name.split("."), "{}.{}".format)
        return f"~{next((node for node in nodes if not any(is_among(key, (node,)) for key in there)), name)}"
    path, _, last = name.rpartition(".")
    return f"{path}={str(value).rpartition('.')[2]}" if last == "_target_" else f"{name}={value}"


def changed_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, first value, second value) of every setting that differs; None where one has no such setting."""
    names = [*first, *(name for name in second if name not in first)]
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def main_metrics(groups: Sequence[Group]) -> dict[str, bool]:
    """Return ``task/metric`` of the groups' main metrics -> higher is better."""
    return {name: higher for group in groups for name, higher in group.first.main.items()}


def split_groups(groups: Sequence[Group]) -> list[tuple[list[Group], list[str]]]:
    """Return lists of groups whose scores can be compared, each with its differences from the first list, in words.

    A group joins the first list in which it differs from no group in data or rules.
    """
    tables: list[tuple[list[Group], list[str]]] = []
    for group in groups:
        differs = [[identity_differences(other.identity, group.identity) for other in members] for members, _ in tables]
        fitting = next(
            (members for (members, _), changes in zip(tables, differs, strict=True) if not any(changes)), None
        )
        if fitting is not None:
            fitting.append(group)
        else:
            tables.append(([group], next(filter(None, differs[0]), []) if tables else []))
    return tables
