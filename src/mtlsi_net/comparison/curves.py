"""Scores over training, from ``metrics.csv``."""

import csv
from collections.abc import Mapping

from mtlsi_net.comparison.runs import Run
from mtlsi_net.specs import SCORE_GROUPS, SUBSET, score_name
from mtlsi_net.utils.errors import UserError

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
    path = run.folder.root / "metrics.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        wanted = {
            f"{task} {name}": f"{run.stage}/{task}/{name}" for task, name in _names(run, lines[0] if lines else {})
        }
        return {label: curve for label, column in wanted.items() if (curve := _curve(lines, column))}
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"metrics.csv cannot be read ({' '.join(str(error).split())[:120]}): no curves") from None


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


def _curve(lines: list[dict[str, str]], column: str) -> Curve:
    points: dict[int, float] = {}
    for line in lines:
        if line.get(column):
            points.setdefault(int(line["step"]), float(line[column]))
    curve = sorted(points.items())
    step = -(-len(curve) // MOST) or 1
    return curve[::step]
