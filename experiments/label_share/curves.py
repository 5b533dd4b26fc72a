"""Draw normals over the share of their labels: ``python experiments/label_share/curves.py RESULTS ALL_LABELS.csv``.

Reads ``runs.csv`` of the comparison in RESULTS, and that of the benchmark's runs with all labels; writes ``labels.csv`` and
``labels.png`` to RESULTS.
"""

import re
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mtlsi_net.comparison.read import MAIN

SCORE = "normals/mean"
SCORES = [f"{task}/{metric}" for task, (metric, _) in MAIN.items()]
"""Main scores, those that a table has among them."""


def read(few: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Return network, share of labels, number of seeds, mean scores, and the range of ``SCORE``.

    Networks are those of ``few``, whose label names share and network (``mtlsi`` if it names none).
    """
    runs = pd.concat([few, full], ignore_index=True)
    shares = runs["label"].str.extract(r"label_share=\{normals: ?([\d.]+)\}")[0].astype(float).fillna(1.0)
    named = [re.search(r"model=(\w+)", label) for label in runs["label"]]
    other = runs["label"].str.contains("ablation=")
    networks = ["mtlsi" if found is None else found[1] for found in named]
    runs = runs.assign(network=networks, share=shares)[~other]
    runs = runs[runs["network"].isin(set(networks[: len(few)]))]
    groups = runs.groupby(["network", "share"])
    table = groups[[name for name in SCORES if name in runs]].mean()
    table.insert(0, "seeds", groups.size())
    return table.assign(low=groups[SCORE].min(), high=groups[SCORE].max()).reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Return a curve for each network, with the range over seeds where there are several."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    for network, own in table.groupby("network"):
        ranges = [own[SCORE] - own["low"], own["high"] - own[SCORE]]
        axis.errorbar(100 * own["share"], own[SCORE], ranges, marker="o", capsize=3, label=network)
    axis.set_xscale("log")
    axis.set_xticks([5, 20, 100], ["5", "20", "100"])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("training rooms whose normals are used, %")
    axis.set_ylabel("normals, mean degrees ↓")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def main(results: Path, all_labels: Path) -> None:
    """Write table and picture."""
    table = read(pd.read_csv(results / "runs.csv"), pd.read_csv(all_labels))
    table.to_csv(results / "labels.csv", index=False, float_format="%.6g")
    draw(table).savefig(results / "labels.png", dpi=110)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
