"""Draw what is left of a task's score with fewer of its labels: ``python experiments/rooms_labels/curves.py RESULTS``.

Reads ``runs.csv`` of the comparison, seed 0; writes ``labels.csv`` and ``labels.png``.
"""

import csv
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

SCORES = {"normals": "normals/mean", "depth": "depth/rmse"}


def read(path: Path) -> list[dict[str, Any]]:
    """Return network, task, share of labels and score of every run; runs with all labels count for every task."""
    with path.open() as file:
        runs = [row for row in csv.DictReader(file) if row["seed"] == "0"]
    rows = []
    for run in runs:
        network = "without fusion" if "no_fusion" in run["label"] else "full"
        limited = re.search(r"label_share={(\w+): ?([\d.]+)}", run["label"])
        for task, score in SCORES.items():
            if limited is None or limited[1] == task:
                share = float(limited[2]) if limited else 1.0
                rows.append({"task": task, "network": network, "share": share, "score": float(run[score])})
    return sorted(rows, key=lambda row: (row["task"], row["network"], row["share"]))


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw one panel a task."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = Figure(figsize=(4 * len(tasks), 3.2), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for network in ("full", "without fusion"):
            own = [row for row in rows if (row["task"], row["network"]) == (task, network)]
            axis.plot([100 * row["share"] for row in own], [row["score"] for row in own], marker="o", label=network)
        axis.set_xscale("log")
        axis.set_xticks([5, 20, 100], ["5", "20", "100"])
        axis.set_xlabel(f"rooms whose {task} label was used, %")
        axis.set_title(f"{SCORES[task].replace('/', ' ')} ↓", fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(results: Path) -> None:
    """Write table and picture."""
    rows = read(results / "runs.csv")
    pd.DataFrame(rows).to_csv(results / "labels.csv", index=False)
    draw(results / "labels.png", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
