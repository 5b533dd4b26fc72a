"""Finished runs, read from their folders; nothing in them is executed."""

import glob
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mtlsi_net.specs import SCORE_GROUPS, score_name
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import RunFolder

STAGES = ("val", "dev")
"""Of the images that are scored; a run has one of them, beside ``train``."""

MAIN = {
    "semseg": ("mIoU", True),
    "human_parts": ("mIoU", True),
    "saliency": ("maxF", True),
    "depth": ("rmse", False),
    "normals": ("mean", False),
    "boundary": ("odsF", True),
}
"""Main metric and whether higher is better, of the tasks that are shipped, for records from before these were kept."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Left:
    """Something that is not in the comparison, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: of the run.
        config: resolved.
        record: ``run.json``; empty if it is missing.
        model: parameters and operations, as ``measure_size`` gives them; empty if they are missing.
        stage: which images ``scores`` are taken over.
        scores: task -> metric -> value; None where it is not finite.
        main: task -> name of its main metric in ``scores``, and whether higher is better.
    """

    folder: RunFolder
    config: Json
    record: Json
    model: Json
    stage: str
    scores: dict[str, dict[str, float | None]]
    main: dict[str, tuple[str, bool]]

    @property
    def name(self) -> str:
        """The folder, as seen from here."""
        return name_of(self.folder.root)


def name_of(folder: Path) -> str:
    """Return a folder relative to the current one if it lies inside, else as it is."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def find_folders(patterns: str | Sequence[str]) -> tuple[list[Path], list[Left]]:
    """Return the run folders that folders or globs stand for, those of a sweep one by one, and what matched nothing."""
    found: dict[Path, None] = {}
    left = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
        runs = [run.resolve() for match in matches if match.is_dir() for run in _runs_inside(match)]
        if not runs:
            left.append(Left(pattern, "holds no run folder" if matches else "no folder matches"))
        found |= dict.fromkeys(runs)
    return list(found), left


def _runs_inside(folder: Path) -> Iterator[Path]:
    own = RunFolder(folder)
    if own.config.is_file() or own.metrics.is_file():
        yield folder
        return
    with suppress(PermissionError):
        for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield from _runs_inside(child)


def read_runs(folders: Iterable[Path], weights: str) -> tuple[list[Run], list[Left]]:
    """Return the runs of the folders that can be read, and the others with the reason."""
    runs, left = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder, weights))
        except UserError as error:
            left.append(Left(name_of(folder), str(error)))
    return runs, left


def read_run(root: Path, weights: str = "last") -> Run:
    """Return the run of a folder.

    Args:
        root: the folder.
        weights: whose scores: ``last``, ``best`` or ``ema``.

    Raises:
        UserError: the run is unfinished, or a file is missing, damaged or not what it should be.
    """
    folder = RunFolder(root)
    if not folder.metrics.is_file():
        raise UserError("unfinished: no metrics.json")
    metrics, config = read_json(folder.metrics), read_yaml(folder.config)
    record = read_json(folder.record) if folder.record.is_file() else {}
    of_weights = metrics.get(weights)
    if not isinstance(of_weights, dict):
        raise UserError(f"metrics.json has no scores of {weights!r} weights")
    stage = next((stage for stage in STAGES if stage in of_weights), None)
    scores = _checked(of_weights.get(stage or ""))
    model = metrics.get("model", {})
    return Run(
        folder, config, record, model if isinstance(model, dict) else {}, stage or "", scores, _main(record, scores)
    )


def read_json(path: Path) -> Json:
    """Return a JSON object.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read ({_brief(error)})") from None
    return _object(found, path)


def read_yaml(path: Path) -> Json:
    """Return a YAML mapping; tags that would make objects are refused.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no {path.name}: which settings the scores belong to is not known") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} cannot be read ({_brief(error)})") from None
    return _object(found, path)


def _object(found: Any, path: Path) -> Json:  # noqa: ANN401 - any JSON value
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path.name} holds no settings or values by name")
    return found


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _checked(scores: Any) -> dict[str, dict[str, float | None]]:  # noqa: ANN401 - any JSON value
    """Return task -> metric -> value if that is what it is.

    Raises:
        UserError: it is something else.
    """
    good = isinstance(scores, dict) and scores and all(isinstance(values, dict) for values in scores.values())
    if not good or not all(_number(value) for values in scores.values() for value in values.values()):
        raise UserError("metrics.json holds no scores (stage -> task -> metric -> number) of val or dev images")
    return {task: dict(values) for task, values in scores.items()}


def _number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _main(record: Json, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, bool]]:
    kept: Any = record.get("main")
    kept = kept if isinstance(kept, dict) else {}
    known = MAIN | {
        task: (str(own["metric"]), bool(own["higher_is_better"])) for task, own in kept.items() if _told(own)
    }
    found = {}
    for task, values in scores.items():
        metric, higher = known.get(task, ("", True))
        names = [name for group in SCORE_GROUPS if (name := score_name(metric, group)) in values]
        if not names:
            raise UserError(
                f"which of the metrics of {task} is the main one is not known; score it again: evaluate ckpt=..."
            )
        found[task] = (names[0], higher)
    return found


def _told(own: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(own, dict) and {"metric", "higher_is_better"} <= own.keys()
