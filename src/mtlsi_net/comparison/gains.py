"""Multi-task gain over single-task runs of the same backbone and data (protocol page, section 5.5)."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlsi_net.comparison.identity import Group, changed_settings, within
from mtlsi_net.comparison.read import entry
from mtlsi_net.metrics.gain import delta_m
from mtlsi_net.utils.errors import UserError, shown

INDEPENDENT = ("mtlsi_net.models.baselines.single_task.SingleTaskNet",)
"""Networks that hold one independent network for each task."""

NEUTRAL = ("model", "tasks", "task_weights", "backbone.image_size")
"""Settings in which a single-task run differs by nature; the fewer others differ, the better it serves as reference."""


@dataclass(frozen=True)
class Gain:
    """A group's multi-task gain.

    Attributes:
        seeds: of each run as a fraction, in the order of the group's; empty without references.
        references: task -> the group whose mean is the reference.
        why: reason why there is none, or what the references differ in beside the network; may be empty.
    """

    seeds: tuple[float, ...]
    references: dict[str, Group]
    why: str

    @property
    def value(self) -> float:
        """Mean over seeds as a fraction, NaN without references."""
        return statistics.fmean(self.seeds) if self.seeds else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (n - 1), NaN of fewer than two."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else math.nan


def is_reference(group: Group) -> bool:
    """Return whether each task of the group's runs has a network of its own."""
    return len(group.first.scores) == 1 or entry(group.first.config, "model", "_target_") in INDEPENDENT


def find_gain(group: Group, groups: Sequence[Group]) -> Gain:
    """Return the gain of ``group`` over the single-task runs among ``groups``, or why there is none."""
    references = _find_references(group, groups)
    if isinstance(references, str):
        return Gain((), {}, references)
    main = group.first.main
    keys = {task: (task, metric) for task, (metric, _) in main.items()}
    everyone = [(own, key) for task, key in keys.items() for own in (group, references[task])]
    if bare := [f"{' '.join(key)} of {own.label}" for own, key in everyone if not own.values(key)]:
        return Gain((), {}, f"not finite: {shown(bare)}")
    theirs = {task: references[task].mean(key) for task, key in keys.items()}
    seeds = [{task: group.values(key)[seed] for task, key in keys.items()} for seed in range(len(group.runs))]
    try:
        gains = [delta_m(ours, theirs, {task: higher for task, (_, higher) in main.items()}) for ours in seeds]
    except UserError as error:  # a reference of 0
        return Gain((), {}, str(error))
    return Gain(tuple(gains), references, _caveat(group, references))


def _find_references(group: Group, groups: Sequence[Group]) -> dict[str, Group] | str:
    """Return task -> reference, or why there are none."""
    if is_reference(group):
        return "a single-task reference itself"
    if not group.identity.known:
        return "run.json does not identify its data"
    if not isinstance(group.first.config.get("backbone"), Mapping):
        return "its backbone is not known"
    found = {task: _find_reference(group, groups, task) for task in group.first.main}
    reasons = [why for why in found.values() if isinstance(why, str)]
    return "; ".join(reasons) if reasons else {task: own for task, own in found.items() if isinstance(own, Group)}


def _find_reference(group: Group, groups: Sequence[Group], task: str) -> Group | str:
    """Return the fitting reference nearest in its recipe, the first of equally near ones, or why there is none."""
    candidates = [other for other in groups if task in other.first.scores and is_reference(other)]
    if not candidates:
        return f"no single-task run of {task} among the runs"
    refusals = {other.label: _refusal(group, other, task) for other in candidates}
    fitting = [other for other in candidates if not refusals[other.label]]
    if not fitting:
        told = (f"{label}: {why}" for label, why in refusals.items())
        return f"no single-task run of {task} that fits ({shown(told, '; ')})"
    return min(fitting, key=lambda other: len(_recipe_differences(group, other)))


def _refusal(group: Group, other: Group, task: str) -> str:
    """Return why ``other`` is no reference of ``group``: another backbone, other data or rules; empty if it is."""
    backbone = [change for change in _recipe_differences(group, other) if within(change[0], ("backbone",))]
    if backbone:
        return ", ".join(f"{name}={theirs} instead of {ours}" for name, ours, theirs in backbone)
    if not other.identity.known:
        return "run.json does not identify its data"
    if different := group.identity.only(task).differences(other.identity.only(task)):
        return "other " + ", ".join(different)
    if group.first.main[task][0] != other.first.main[task][0]:
        return f"{other.first.main[task][0]} instead of {group.first.main[task][0]}"
    return ""


def _recipe_differences(group: Group, other: Group) -> list[tuple[str, Any, Any]]:
    changed = changed_settings(group.settings, other.settings)
    return [change for change in changed if not within(change[0], NEUTRAL)]


def _caveat(group: Group, references: Mapping[str, Group]) -> str:
    """Return in which settings beside the network the references differ."""
    names = dict.fromkeys(name for other in references.values() for name, *_ in _recipe_differences(group, other))
    return f"its references differ in {shown(names)}" if names else ""
