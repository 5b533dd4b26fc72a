"""Reader of finished run folders; executes nothing in them."""

import glob
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd
import yaml

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import flatten
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.run_folder import RunFolder, histories
from mtlsi_net.core.settings import early_stoppings
from mtlsi_net.core.types import SCORE_GROUPS, SUBSET, score_name

STAGES = ("val", "dev", "test")
"""Names of the scored image sets that are compared; a run has one of them, a training run one of the first two."""

MAIN = {
    "semseg": ("mIoU", True),
    "human_parts": ("mIoU", True),
    "saliency": ("maxF", True),
    "depth": ("rmse", False),
    "normals": ("mean", False),
    "boundary": ("odsF", True),
}
"""Main metric and whether higher is better, of the built-in tasks, for older records that do not name them."""

MAX_POINTS = 300
"""Most points of a curve, evenly spaced."""

GROUP_SUFFIX = f"_({'|'.join(filter(None, SCORE_GROUPS))})$"

Json = dict[str, Any]
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class SkippedRun:
    """A run, or a part of one, that is not in the comparison, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: RunFolder
    config: Json
    record: Json  # run.json; empty if it is missing
    model: Json  # parameters and operations, as ``measure_size`` gives them; empty if they are missing
    stage: str  # which images ``scores`` are taken over
    scores: dict[str, float | None]  # ``task/metric`` -> value; None where it is not finite
    main: dict[str, bool]  # name in ``scores`` of every task's main metric -> whether higher is better

    @property
    def name(self) -> str:
        """The folder, as seen from the current one."""
        return _relative(self.folder.root)

    @property
    def tasks(self) -> dict[str, str]:
        """Task -> its main metric's name in ``scores``."""
        return {name.partition("/")[0]: name for name in self.main}

    @property
    def training_speed(self) -> float:
        """Training images a second, validation included; NaN where the recorded seconds may not be those of all steps."""
        in_parts = self.record.get("resumed") or self.record.get("extends") or len(histories(self.folder)) > 1
        if in_parts or early_stoppings(self.config):
            return math.nan
        try:
            images = self.config["trainer"]["max_steps"] * self.config["data"]["batch_size"]
            return float(images / self.record["seconds"]["fit"])
        except (KeyError, TypeError, ZeroDivisionError):
            return math.nan


def _relative(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def entry(node: Any, *path: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value at a path of keys, ``default`` if there is no such value."""
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return default if node is None else node


def find_folders(patterns: str | Sequence[str]) -> tuple[list[Path], list[SkippedRun]]:
    """Return the run folders of folders or globs, those of a sweep one by one, and the patterns without any."""
    folders: dict[Path, None] = {}
    skipped = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = (
            [pattern] if Path(pattern).is_dir() else sorted(glob.glob(pattern, recursive=True))
        )  # [ is a letter first
        matches = [Path(match) for match in found]
        runs = [run.resolve() for match in matches if match.is_dir() for run in _runs_inside(match)]
        if not runs:
            skipped.append(SkippedRun(pattern, "contains no run folder" if matches else "no folder matches"))
        folders |= dict.fromkeys(runs)
    return list(folders), skipped


def _runs_inside(root: Path) -> Iterator[Path]:
    for folder, children, files in os.walk(root, followlinks=True):
        children[:] = sorted(name for name in children if not name.startswith("."))
        if {"config.yaml", "metrics.json"} & set(files):
            children.clear()
            yield Path(folder)


def read_runs(folders: Iterable[Path], weights: str) -> tuple[list[Run], list[SkippedRun]]:
    """Return the runs of the folders that can be read, and the others with the reason."""
    runs, skipped = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder, weights))
        except UserError as error:
            skipped.append(SkippedRun(_relative(folder), str(error)))
    return runs, skipped


def read_run(root: Path, weights: str = "last") -> Run:
    """Return the run of a folder, with the scores of its ``last``, ``best`` or ``ema`` weights; a UserError if it has none."""
    folder = RunFolder(root)
    if not folder.metrics.is_file():
        raise UserError("unfinished: no metrics.json")
    metrics, config = _read(folder.metrics), modernize(_read(folder.config))
    record = _read(folder.record) if folder.record.is_file() else {}
    trainer, hardware = config.get("trainer"), record.get("hardware")
    if isinstance(trainer, dict) and trainer.get("precision") == "auto":  # of earlier versions
        trainer["precision"] = "bf16-mixed" if isinstance(hardware, dict) and hardware.get("gpus") else "32-true"
    of_weights = metrics.get(weights)
    if not isinstance(of_weights, dict):
        raise UserError(f"metrics.json has no scores of {weights!r} weights")
    stage = next((stage for stage in STAGES if stage in of_weights), "")
    scores = flatten(by_task, "/") if isinstance(by_task := of_weights.get(stage), dict) else {}
    numbers = [value for value in scores.values() if value is not None]
    finite = all(type(value) in (int, float) and math.isfinite(value) for value in numbers)  # no bool
    if not (scores and finite and all("/" in name for name in scores)):
        raise UserError(
            "metrics.json contains no scores (stage -> task -> metric -> number) of val, dev or test images"
        )
    model = kept if isinstance(kept := metrics.get("model"), dict) else {}
    return Run(folder, config, record, model, stage, scores, _main_metrics(record, scores))


def _read(path: Path) -> Json:
    """Return the object in a JSON or YAML file; YAML tags that create Python objects are refused."""
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing, so the settings behind the scores are unknown") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} cannot be read ({shorten(str(error), 120)})") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path.name} is not a mapping of names to values")
    return content


def _main_metrics(record: Json, scores: Mapping[str, Any]) -> dict[str, bool]:
    main = {}
    for task in dict.fromkeys(name.partition("/")[0] for name in scores):
        metric, higher = (entry(record, "main", task, key) for key in ("metric", "higher_is_better"))
        if metric is None or higher is None:
            metric, higher = MAIN.get(task, ("", True))
        names = [f"{task}/{score_name(str(metric), group)}" for group in SCORE_GROUPS]
        if not any(name in scores for name in names):
            raise UserError(f"the main metric of {task} is unknown; score the run again with evaluate ckpt=...")
        main[next(name for name in names if name in scores)] = bool(higher)
    return main


def read_curves(run: Run) -> dict[str, Curve]:
    """Return ``task metric`` -> (step, value) of the main metrics on the scored images; empty without ``metrics.csv``.

    For a step logged twice in one file, the first value counts: the final scores, logged at the last step, may come from
    another checkpoint. For a step trained twice, in two files, the second counts. A UserError for damaged files.
    """
    curves = {}
    try:
        parts = [pd.read_csv(path).groupby("step").first() for path in histories(run.folder)]
        logged = reduce(lambda earlier, later: later.combine_first(earlier), parts, pd.DataFrame())
        for name in run.main:
            estimate = score_name(re.sub(GROUP_SUFFIX, "", name), SUBSET)
            logged_name = estimate if f"{run.stage}/{estimate}" in logged else name
            column = logged.get(f"{run.stage}/{logged_name}", pd.Series()).dropna()
            points = [(int(step), float(value)) for step, value in column.items()]
            if points:
                curves[logged_name.replace("/", " ")] = points[:: -(-len(points) // MAX_POINTS)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"metrics.csv cannot be read ({shorten(str(error), 120)}); no curves") from None
    return curves
