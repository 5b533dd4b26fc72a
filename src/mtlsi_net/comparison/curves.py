"""Scores over training, from ``metrics.csv`` and those of a resumed run's earlier parts."""

import csv
from collections.abc import Mapping
from pathlib import Path

from mtlsi_net.comparison.runs import Run
from mtlsi_net.specs import SCORE_GROUPS, SUBSET, score_name
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import histories

MOST = 300
"""Points of a curve that are kept, evenly spaced."""

Curve = list[tuple[int, float]]


def read_curves(run: Run) -> dict[str, Curve]:
    """Return ``task metric`` -> (step, value) of the main metrics on the scored images; empty without a file.

    What the closing scores logged at the last step is left out where a score was logged before: it may be another
    checkpoint's.

    Raises:
        UserError: the file is damaged.
    """
    found: dict[str, dict[int, float]] = {}
    for path in histories(run.folder):
        try:
            for label, points in _read(run, path).items():
                found.setdefault(label, {}).update(points)  # of steps that were trained twice, the second time counts
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(f"{path.name} cannot be read ({' '.join(str(error).split())[:120]}): no curves") from None
    return {label: _thinned(points) for label, points in found.items() if points}


def _read(run: Run, path: Path) -> dict[str, dict[int, float]]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    names = _names(run, lines[0] if lines else {})
    return {f"{task} {name}": _points(lines, f"{run.stage}/{task}/{name}") for task, name in names}


def _names(run: Run, columns: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (task, metric) of the columns to draw: what validation during training tells, if it is an estimate."""
    found = []
    for task, (metric, _) in run.main.items():
        bare = next(
            (metric[: -len(end)] for group in SCORE_GROUPS if (end := score_name("", group)) and metric.endswith(end)),
            metric,
        )
        estimate = score_name(bare, SUBSET)
        found.append((task, estimate if f"{run.stage}/{task}/{estimate}" in columns else metric))
    return found


def _points(lines: list[dict[str, str]], column: str) -> dict[int, float]:
    points: dict[int, float] = {}
    for line in lines:
        if line.get(column):
            points.setdefault(int(line["step"]), float(line[column]))
    return points


def _thinned(points: Mapping[int, float]) -> Curve:
    curve = sorted(points.items())
    return curve[:: -(-len(curve) // MOST)]
