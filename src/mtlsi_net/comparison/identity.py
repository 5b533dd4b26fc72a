"""What scores were taken over, and by which rules: only what is equal here can be compared."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtlsi_net.comparison.runs import Run

UNKNOWN = "not known"


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
        found = _differences(self.common, other.common, "")
        for task in self.tasks.keys() & other.tasks.keys():
            found += _differences(self.tasks[task], other.tasks[task], f" of {task}")
        return sorted(found)


def identity_of(run: Run) -> Identity:
    """Return what a run's record says; what it does not say is not known, and equals nothing known."""
    data, configured = _mapping(run.record.get("data")), _mapping(run.config.get("data"))
    parts = _mapping(data.get("parts"))
    known = {"lists", "image", *run.scores} <= parts.keys() and "protocol" in run.record
    common = {
        "protocol": str(run.record.get("protocol", UNKNOWN)),
        "scored images": run.stage,
        "scale": str(data.get("scale", configured.get("scale", UNKNOWN))),
        "split lists": str(parts.get("lists", UNKNOWN)),
        "images": str(parts.get("image", UNKNOWN)),
    }
    if not known:
        common["data folder"] = str(configured.get("root", UNKNOWN))
    rules = _mapping(run.record.get("metrics"))
    tasks = {
        task: {"labels": str(parts.get(task, UNKNOWN)), "metric": json.dumps(rules.get(task, UNKNOWN), sort_keys=True)}
        for task in run.scores
    }
    return Identity(common, tasks, known)


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, Mapping) else {}


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str], where: str) -> list[str]:
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        values = [_short(side.get(key, UNKNOWN)) for side in (ours, theirs)]
        if ours.get(key) != theirs.get(key):
            found.append(f"{key}{where} ({values[0]} against {values[1]})")
    return found


def _short(value: str) -> str:
    """Return a value for a message, of a digest its beginning."""
    digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value[:8] if digest else value
