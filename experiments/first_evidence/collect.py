"""Gather the sweeps of ``run.sh`` into results.csv and table.md: one row for each network, means over seeds."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import yaml

HERE = Path(__file__).parent
METRICS = {"semseg": "mIoU", "depth": "rmse", "normals": "mean", "boundary": "odsF"}
HIGHER_IS_BETTER = {"semseg": True, "depth": False, "normals": False, "boundary": True}


def read_run(folder: Path) -> dict[str, object]:
    """Return label, seed, parameters, minutes and main scores of one run folder."""
    overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    choices = dict(item.split("=", 1) for item in overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    record = json.loads((folder / "run.json").read_text())
    label = choices.get("ablation", choices.get("model"))
    scores = {task: metrics["last"]["val"][task][key] for task, key in METRICS.items()}
    return {
        "network": "mtlsi" if label == "blocks_111" else label,
        "seed": int(choices["seed"]),
        "decoder M": metrics["model"]["decoder_parameters_m"],
        "decoder GFLOP": metrics["model"]["decoder_gflop"],
        "fit minutes": record["seconds"]["fit"] / 60,
        **scores,
        "commit": record["commit"][:7],
    }


def main() -> None:
    """Write the two files."""
    runs = [read_run(path.parent) for path in sorted(HERE.glob("sweeps/*/*/metrics.json"))]
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(runs[0]))
        writer.writeheader()
        writer.writerows(runs)
    by_network = defaultdict(list)
    for run in runs:
        by_network[run["network"]].append(run)
    arrows = {True: "↑", False: "↓"}
    heads = [f"{task} {key} {arrows[HIGHER_IS_BETTER[task]]}" for task, key in METRICS.items()]
    lines = [["network", "seeds", "decoder M", *heads], ["---", "---:", "---:", *["---:"] * len(heads)]]
    for network, found in by_network.items():
        cells = []
        for task in METRICS:
            values = [run[task] for run in found]
            mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
            cells.append(f"{mean:.3g} ± {half:.2g}" if len(values) > 1 else f"{mean:.3g}")
        lines.append([network, ", ".join(str(r["seed"]) for r in found), f"{found[0]['decoder M']:.2f}", *cells])
    (HERE / "table.md").write_text("".join("| " + " | ".join(line) + " |\n" for line in lines))
    print((HERE / "table.md").read_text())


if __name__ == "__main__":
    main()
