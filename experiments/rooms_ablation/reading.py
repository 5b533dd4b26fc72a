"""Which ablations differ from the full network by more than its seeds do: ``python .../reading.py RESULTS``.

Reads ``runs.csv`` of the comparison; writes ``reading.md``, a table for each set of images that was scored, every row beside
the full network on the same images. A star marks a score further from the mean of the full network's
seeds than two of their standard deviations (n - 1): with three seeds a hint, no test.
"""

import csv
import statistics
import sys
from pathlib import Path

SCORES = {"semseg/mIoU": "semseg mIoU ↑", "depth/rmse": "depth rmse ↓", "normals/mean": "normals mean ↓"}
SCORES |= {"boundary/odsF": "boundary odsF ↑", "gain": "gain %"}
FORMS = {"semseg/mIoU": ".3f", "depth/rmse": ".3f", "normals/mean": ".1f", "boundary/odsF": ".3f", "gain": "+.1f"}
FULL = "model=mtlsi"


def table(runs: list[dict[str, str]]) -> str:
    """Return the full network's seeds and every ablation as a Markdown table."""
    full = [run for run in runs if FULL in run["label"].split()]
    rows = [run for run in runs if _changes(run)]
    spreads = {key: _spread([float(run[key]) for run in full]) for key in SCORES}
    lines = [["", "decoder M", *SCORES.values()], ["---", *["---:"] * (len(SCORES) + 1)]]
    means = [f"{_scaled(key, mean):{FORMS[key]}} ± {_scaled(key, sd):.2g}" for key, (mean, sd) in spreads.items()]
    lines.append([f"full, {len(full)} seeds", f"{float(full[0]['decoder_parameters_m']):.2f}", *means])
    for run in rows:
        cells = []
        for key, (mean, sd) in spreads.items():
            star = " *" if abs(float(run[key]) - mean) > 2 * sd else ""
            cells.append(f"{_scaled(key, float(run[key])):{FORMS[key]}}{star}")
        name = ", ".join(_changes(run))
        lines.append([name, f"{float(run['decoder_parameters_m']):.2f}", *cells])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _changes(run: dict[str, str]) -> list[str]:
    """Return what a row changes of the full network; other words of its label are settings that came later."""
    words = (
        word.removeprefix("ablation=") for word in run["label"].split() if word.startswith(("ablation=", "model."))
    )
    return list(words)


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values)


def _scaled(key: str, value: float) -> float:
    return 100 * value if key == "gain" else value


def main(results: Path) -> None:
    """Write the tables."""
    with (results / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    groups = {run["table"]: [other for other in runs if other["table"] == run["table"]] for run in runs}
    text = "\n".join(table(group) for group in groups.values())
    (results / "reading.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
