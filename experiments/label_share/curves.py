"""Draw normals over the share of their labels: ``python experiments/label_share/curves.py RESULTS``.

Reads ``runs.csv`` of the comparison; writes ``labels.csv`` and ``labels.png``.
"""

import re
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

SCORE = "normals/mean"


def read(path: Path) -> pd.DataFrame:
    """Return network, share of labels and score of every run; a run without a share has all labels."""
    runs = pd.read_csv(path)
    shares = runs["label"].str.extract(r"label_share=\{normals: ?([\d.]+)\}")[0].astype(float).fillna(1.0)
    networks = runs["label"].map(lambda label: re.search(r"model=(\w+)", label)).map(lambda m: m[1] if m else "mtlsi")
    table = pd.DataFrame({"network": networks, "share": shares, SCORE: runs[SCORE]})
    return table.sort_values(["network", "share"], ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """Return a curve for each network."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    for network, own in table.groupby("network"):
        axis.plot(100 * own["share"], own[SCORE], marker="o", label=network)
    axis.set_xscale("log")
    axis.set_xticks([5, 20, 100], ["5", "20", "100"])
    axis.set_xlabel("training rooms whose normals were used, %; all other labels are used")
    axis.set_ylabel("normals, mean degrees ↓")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def main(results: Path) -> None:
    """Write table and picture."""
    table = read(results / "runs.csv")
    table.to_csv(results / "labels.csv", index=False)
    draw(table).savefig(results / "labels.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
