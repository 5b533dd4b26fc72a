"""How far mtlsi is ahead of plain over all seeds: ``python experiments/rooms_bench/lead.py RUNS.csv MORE.csv LEAD.csv``.

Reads ``runs.csv`` of two comparisons, of which the first has the reference ``single_task``; writes each score's mean of both
networks, their mean difference by seed, and its t interval. ``gain`` is in points.
"""

import sys
from pathlib import Path

import pandas as pd

from mtlsi_net.comparison.bootstrap import seed_interval
from mtlsi_net.comparison.read import MAIN
from mtlsi_net.metrics.gain import delta_m

SCORES = {f"{task}/{metric}": higher for task, (metric, higher) in MAIN.items()}
"""Main score of each task -> whether higher is better."""
FIRST, SECOND, REFERENCE = "model=mtlsi", "model=plain", "model=single_task"


def lead(runs: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each score and for the gain over the reference's mean."""
    scores = {name: SCORES[name] for name in SCORES if name in runs}
    reference = runs.loc[runs["label"] == REFERENCE, list(scores)].mean().to_dict()
    every = pd.concat([runs, more], ignore_index=True)
    every["gain"] = [100 * delta_m(row[list(scores)].to_dict(), reference, scores) for _, row in every.iterrows()]
    ours, theirs = (every[every["label"] == name].set_index("seed") for name in (FIRST, SECOND))
    if not (ours.index.is_unique and theirs.index.is_unique and set(ours.index) == set(theirs.index)):
        raise SystemExit(
            f"seeds of {FIRST} are {[*ours.index]}, of {SECOND} {[*theirs.index]}; both need each seed once"
        )
    rows = []
    for name in (*scores, "gain"):
        low, high = seed_interval(ours[name].to_dict(), theirs[name].to_dict())
        means = ours[name].mean(), theirs[name].mean()
        rows.append((name, len(ours), *means, means[0] - means[1], low, high))
    return pd.DataFrame(rows, columns=["score", "seeds", FIRST, SECOND, "difference", "low", "high"])


if __name__ == "__main__":
    first, second, out = map(Path, sys.argv[1:])
    table = lead(pd.read_csv(first), pd.read_csv(second))
    table.to_csv(out, index=False, float_format="%.6g")
    print(table.to_string(index=False, float_format="{:.4g}".format))
