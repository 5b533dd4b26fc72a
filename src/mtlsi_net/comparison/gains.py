"""Multi-task gain over single-task runs of the same backbone and data (docs/reference/metrics.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtlsi_net.comparison.identity import Group, changed_settings, identity_differences, mean
from mtlsi_net.comparison.read import entry
from mtlsi_net.core.errors import InputError, shown
from mtlsi_net.core.settings import is_among
from mtlsi_net.metrics.gain import delta_m, delta_m_percent, delta_p_percent

INDEPENDENT = "mtlsi_net.models.baselines.single_task.SingleTaskNet"
"""The network that holds one independent network for each task."""

NEUTRAL = ("model", "tasks", "task_weights", "backbone.image_size")
"""Settings in which a single-task run always differs; the reference is the run with the fewest other differences."""


PERCENTS = {"delta_m": "Δm % ↓", "delta_p": "Δp % ↑"}
"""Averages over several scores of each task that the task-balancing literature publishes -> heading."""


@dataclass(frozen=True)
class Gain:
    """A group's multi-task gain."""

    seeds: tuple[float, ...]  # each run's, as a fraction; empty without references
    references: dict[str, Group]  # main metric -> the group whose mean is the reference
    why: str  # why it has no value, or how the references differ apart from the network; may be empty
    percents: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of ``PERCENTS`` -> each run's


def is_reference(group: Group) -> bool:
    """Return whether each task of the group's runs has a network of its own."""
    return len(group.first.main) == 1 or _is_independent(group)


def _is_independent(group: Group) -> bool:
    return bool(entry(group.first.config, "model", "_target_") == INDEPENDENT)


def find_gain(group: Group, groups: Sequence[Group]) -> Gain:
    """Return the gain of ``group`` over the single-task runs among ``groups``, or why it has none."""
    references = _find_references(group, groups)
    if isinstance(references, str):
        return Gain((), {}, references)
    pairs = [(member, name) for name, reference in references.items() for member in (group, reference)]
    if bare := [f"{name.replace('/', ' ')} of {member.label}" for member, name in pairs if not member.values(name)]:
        return Gain((), {}, f"not finite: {shown(bare)}")
    targets = {name: mean(reference.values(name)) for name, reference in references.items()}
    seeds = zip(*map(group.values, references), strict=True)
    try:
        gains = tuple(
            delta_m(dict(zip(references, scores, strict=True)), targets, group.first.main) for scores in seeds
        )
    except InputError as error:  # a reference of 0
        return Gain((), {}, str(error))
    changed = dict.fromkeys(name for other in references.values() for name, *_ in _recipe_differences(group, other))
    why = f"its references differ in {shown(changed)}" if changed else ""
    return Gain(gains, references, why, _percents(group, references))


def _percents(group: Group, references: Mapping[str, Group]) -> dict[str, tuple[float, ...]]:
    """Return ``PERCENTS``, where the rules of every task's scores name those that they average; else nothing.

    Delta m averages the scores as published, over batches where they were; LibMTL's Delta p those over all pixels.
    """
    rules = {task: entry(group.first.record, "metrics", task, "delta_m") for task in group.first.tasks}
    if not all(isinstance(own, Mapping) for own in rules.values()):
        return {}
    published = {f"{task}/{name}": bool(up) for task, own in rules.items() for name, up in own.items()}
    pooled = {name.removesuffix("_mtan"): up for name, up in published.items()}
    tasks = {name: references[group.first.tasks[name.partition("/")[0]]] for name in {**published, **pooled}}
    found = {}
    for key, form, directions in (("delta_m", delta_m_percent, published), ("delta_p", delta_p_percent, pooled)):
        if not all(member.values(name) for name in directions for member in (group, tasks[name])):
            continue
        targets = {name: mean(tasks[name].values(name)) for name in directions}
        seeds = zip(*map(group.values, directions), strict=True)
        try:
            found[key] = tuple(form(dict(zip(directions, own, strict=True)), targets, directions) for own in seeds)
        except InputError:  # a reference of 0
            continue
    return found


def _find_references(group: Group, groups: Sequence[Group]) -> dict[str, Group] | str:
    """Return main metric -> reference, or why the group has none."""
    if is_reference(group):
        return "a single-task reference itself"
    if not group.known:
        return "run.json does not identify its data"
    if not isinstance(group.first.config.get("backbone"), Mapping):
        return "its backbone is unknown"
    matches = {name: _find_reference(group, groups, task) for task, name in group.first.tasks.items()}
    reasons = [why for why in matches.values() if isinstance(why, str)]
    if len(reasons) == len(matches) and not any(map(is_reference, groups)):
        return "no single-task runs among these"
    return (
        "; ".join(reasons) if reasons else {name: match for name, match in matches.items() if isinstance(match, Group)}
    )


def _find_reference(group: Group, groups: Sequence[Group], task: str) -> Group | str:
    """Return the matching reference with the most similar settings, or why no run matches.

    Of equals it is ``INDEPENDENT``, which serves all rows alike, else the first.
    """
    candidates = [other for other in groups if task in other.first.tasks and is_reference(other)]
    if not candidates:
        return f"no single-task run of {task} among the runs"
    refusals = {other.label: _refusal(group, other, task) for other in candidates}
    fitting = [other for other in candidates if not refusals[other.label]]
    if not fitting:
        reasons = (f"{label}: {why}" for label, why in refusals.items())
        return f"no matching single-task run of {task} ({shown(reasons, '; ')})"
    return min(fitting, key=lambda other: (len(_recipe_differences(group, other)), not _is_independent(other)))


def _refusal(group: Group, other: Group, task: str) -> str:
    """Return why ``other`` cannot be a reference of ``group`` (another backbone, other data or rules); empty if it can."""
    changed = _recipe_differences(group, other)
    if backbone := [change for change in changed if is_among(change[0], ("backbone",))]:
        return ", ".join(f"{name}={actual} instead of {wanted}" for name, wanted, actual in backbone)
    if not other.known:
        return "run.json does not identify its data"
    if different := identity_differences(group.identity, other.identity, task):
        return "other " + ", ".join(different)
    wanted, actual = (member.first.tasks[task].partition("/")[2] for member in (group, other))
    return f"{actual} instead of {wanted}" if actual != wanted else ""


def _recipe_differences(group: Group, other: Group) -> list[tuple[str, Any, Any]]:
    changed = changed_settings(group.settings, other.settings)
    return [change for change in changed if not is_among(change[0], NEUTRAL)]
