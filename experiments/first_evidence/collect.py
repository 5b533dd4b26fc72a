"""Gather the sweeps of ``run.sh`` into results.csv and table.md, one row for each run."""

import csv
import json
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
    arrows = {True: "↑", False: "↓"}
    heads = [f"{task} {key} {arrows[HIGHER_IS_BETTER[task]]}" for task, key in METRICS.items()]
    lines = [["seed", "network", "decoder M", *heads], ["---:", "---", "---:", *["---:"] * len(heads)]]
    for run in sorted(runs, key=lambda run: (run["seed"], str(run["network"]))):
        scores = [f"{run[task]:.3g}" for task in METRICS]
        lines.append([str(run["seed"]), str(run["network"]), f"{run['decoder M']:.2f}", *scores])
    (HERE / "table.md").write_text("".join("| " + " | ".join(line) + " |\n" for line in lines))
    print((HERE / "table.md").read_text())


if __name__ == "__main__":
    main()
