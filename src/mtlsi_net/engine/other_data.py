"""Scoring of a checkpoint on another data set: which tasks match, and what differs."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core.config import check_complete, find_object, located
from mtlsi_net.core.errors import UserError, choose, shown
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.mapped import MappedSemsegTask
from mtlsi_net.tasks.semseg import SemsegTask

log = logging.getLogger(__name__)

ClassMaps = Mapping[str, Mapping[str, str | None]]
"""Task -> class of the checkpoint -> class of the data, or None."""


@dataclass
class Match:
    """Tasks that a checkpoint and another data set share, as they are scored there, and what differs, in sentences."""

    tasks: dict[str, Task] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def with_other_data(run: DictConfig, cfg: DictConfig) -> DictConfig:
    """Return the run's configuration with the data of ``cfg``, of which nothing is trained."""
    check_complete(cfg)
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    changed = run.copy()
    changed.data = data | {"augment": False, "extra_augmentations": []}
    return changed


def read_class_maps(path: Path | None) -> ClassMaps:
    """Return the mappings in a YAML file, task -> {class of the checkpoint: class of the data, or null}; none without a file.

    Raises:
        UserError: the file cannot be read, or has another form.
    """
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"class_map={path} cannot be read ({reason}); give a YAML file, task: {{class: class}}"
        ) from None
    names = isinstance(content, dict) and all(isinstance(part, dict) for part in content.values())
    if not names or not all(isinstance(v, str | None) for part in content.values() for v in part.values()):
        raise UserError(
            f"class_map={path} has another form; write task: {{class of the checkpoint: class of the data}}"
        )
    return {str(task): {str(own): other for own, other in part.items()} for task, part in content.items()}


def match_tasks(trained: Mapping[str, Task], scored: Mapping[str, Task], maps: ClassMaps) -> Match:
    """Return which of the checkpoint's tasks can be scored on the other data, by name, and why others cannot.

    Raises:
        UserError: no task is left, or a mapping does not fit.
    """
    match = Match()
    for name in maps:
        choose("class_map: task", name, trained)
    for name, task in trained.items():
        if name not in scored:
            match.differences.append(f"{name}: not scored, the data has no such task")
            continue
        found = _match(name, task, scored[name], maps.get(name))
        if isinstance(found, str):
            match.differences.append(f"{name}: not scored, {found}")
            continue
        match.tasks[name] = found
        match.differences += _task_differences(name, task, found)
    rest = [name for name in scored if name not in trained]
    match.differences += [f"{name}: not scored, the checkpoint has no such task" for name in rest]
    if not match.tasks:
        raise UserError(f"no task of the checkpoint can be scored on this data ({shown(match.differences, '; ')})")
    return match


def _match(name: str, trained: Task, scored: Task, mapping: Mapping[str, str | None] | None) -> Task | str:
    """Return the task as it is scored, or why it is not."""
    if trained.target.kind != scored.target.kind:
        return f"the checkpoint predicts {trained.target.kind}, the data holds {scored.target.kind}"
    units = [getattr(task, "unit", "") for task in (trained, scored)]
    if units[0] != units[1]:
        return f"the checkpoint predicts {units[0]}, the data holds {units[1]}"
    if not (isinstance(trained, SemsegTask) and isinstance(scored, SemsegTask)):
        return scored if trained.channels == scored.channels else "the checkpoint has other outputs"
    if mapping is None and trained.class_names == scored.class_names:
        return scored
    if mapping is None and set(trained.class_names) != set(scored.class_names):
        counts = f"{len(trained.class_names)} classes in the checkpoint, {len(scored.class_names)} in the data"
        return f"class lists differ ({counts}): give class_map=FILE, {name}: {{class of the checkpoint: class of the data}}"
    with located(f"class_map: {name}"):
        return MappedSemsegTask(trained, scored, mapping)


def _task_differences(name: str, trained: Task, scored: Task) -> list[str]:
    found = []
    if isinstance(scored, MappedSemsegTask):
        unused = [own for own, other in scored.mapping.items() if other is None]
        found.append(f"{name}: {len(trained.class_names)} classes stand for {len(scored.scored or ())} of the data")
        found += (
            [f"{name}: labels are ignored of {shown(scored.lost)}, which no class stands for"] if scored.lost else []
        )
        found += [f"{name}: predictions are left out of {shown(unused)}, which stand for none"] if unused else []
    rules = {key: value for key, value in scored.variant().items() if key != "class_map"}
    before = trained.variant()
    changed = [key for key in {**rules, **before} if rules.get(key) != before.get(key)]
    return [*found, f"{name}: metric rules differ in {shown(sorted(changed))}"] if changed else found


def data_differences(before: DictConfig, sizes: ImageSizes | None, data: MultiTaskDataModule) -> list[str]:
    """Return how data differ from those of the run ``before``, whose validation images had ``sizes``, if known."""
    here = data.validation_sizes()
    found = [f"data: {data.root} instead of {before.data.get('root')}"]
    if sizes is not None and sizes.median != here.median:
        factor = (sizes.median[0] * sizes.median[1] / (here.median[0] * here.median[1])) ** 0.5
        advice = f", about data.scale={factor:.2g} brings them to that" if factor < 1 else ""
        text = f"{here.median[0]}x{here.median[1]} instead of {sizes.median[0]}x{sizes.median[1]} (medians)"
        found.append(f"image size: {text}; apparent sizes and distances differ{advice}")
    there = find_object(str(before.data._target_))
    known = data.known_axes and getattr(there, "known_axes", True)
    if not known and type(data) is not there:
        vectors = [name for name, spec in data.targets.items() if spec.kind == "vector"]
        found += [f"{name}: the axes of MTAN's normals are not documented and may be other ones" for name in vectors]
    return found
