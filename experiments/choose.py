"""Choose each network's norm and learning rate: ``python experiments/choose.py RUNS.csv CHOSEN.csv``.

Reads ``runs.csv`` of the comparison of the search, writes a line for each run with its gain, the mean over tasks of the
relative change against the same network at the default settings, and whether it is the best. With
``--settings CHOSEN.csv`` prints the settings of the chosen runs, a line for each network.
"""

import re
import sys
from pathlib import Path

import pandas as pd

from mtlsi_net.comparison.read import MAIN
from mtlsi_net.metrics.gain import delta_m

SCORES = {f"{task}/{metric}": higher for task, (metric, higher) in MAIN.items()}
"""Main score of each task -> whether higher is better."""
DEFAULT = {"norm": "batch", "lr": "0.001"}
PATTERNS = {"network": r"(?:model|ablation)=\w+", "norm": r"model\.norm=(\w+)", "lr": r"optim\.lr=([\d.e-]+)"}


def settings(command: str) -> dict[str, str]:
    """Return network, norm and learning rate of a run's command; the network is ``model=mtlsi`` unless another is named."""
    found = {name: re.findall(pattern, command) for name, pattern in PATTERNS.items()}
    network = found["network"][-1] if found["network"] else "model=mtlsi"
    return {"network": network} | {name: found[name][-1] if found[name] else DEFAULT[name] for name in DEFAULT}


def choose(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with settings, gain in per cent, and ``chosen``."""
    table = pd.DataFrame([settings(command) for command in runs["command"]])
    table["lr"] = table["lr"].astype(float)
    scores = {name: SCORES[name] for name in SCORES if name in runs}
    if unknown := [name for name in runs if "/" in name and name not in scores]:
        raise SystemExit(f"runs.csv has scores that are no main scores: {', '.join(unknown)}")
    table = pd.concat([table, runs[list(scores)].astype(float).reset_index(drop=True)], axis=1)
    gains = []
    for _, row in table.iterrows():
        default = (table["norm"] == DEFAULT["norm"]) & (table["lr"] == float(DEFAULT["lr"]))
        references = table[(table["network"] == row["network"]) & default]
        if references.empty:
            raise SystemExit(
                f"{row['network']} has no run at the default settings {DEFAULT}; run the search to its end"
            )
        reference = references.iloc[0]
        gains.append(100 * delta_m(row[list(scores)].to_dict(), reference[list(scores)].to_dict(), scores))
    table["gain"] = gains
    table["chosen"] = table.index.isin(table.groupby("network")["gain"].idxmax())
    return table.sort_values(["network", "norm", "lr"])


def main(source: Path, goal: Path) -> None:
    """Write the table."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    choose(pd.read_csv(source)).to_csv(goal, index=False, float_format="%.4g")


def print_settings(chosen: Path) -> None:
    """Print the settings of each network's chosen run."""
    for row in pd.read_csv(chosen).query("chosen").itertuples():
        print(f"{row.network} model.norm={row.norm} optim.lr={row.lr:g}")


if __name__ == "__main__":
    if sys.argv[1] == "--settings":
        print_settings(Path(sys.argv[2]))
    else:
        main(*map(Path, sys.argv[1:]))
