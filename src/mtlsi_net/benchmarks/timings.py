"""Things that took turns, and how long each of them took: one table, one plot, one record."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track

from mtlsi_net.benchmarks.tables import print_rows, spread, write_csv
from mtlsi_net.record import describe_run
from mtlsi_net.utils.io import write_json

log = logging.getLogger(__name__)

Seconds = Mapping[str, NDArray[np.float64]]
"""What was done -> seconds, one value a round."""


def take_turns(jobs: Mapping[str, Callable[[], float]], rounds: int, title: str) -> Seconds:
    """Return the seconds that the jobs tell, round by round, so that ratios hold on a busy machine.

    One more round comes first and is not counted.
    """
    found = {name: np.zeros(rounds + 1) for name in jobs}
    for number in track(range(rounds + 1), title, transient=True):
        for name, job in jobs.items():
            found[name][number] = job()
    return {name: values[1:] for name, values in found.items()}


def publish_timings(
    what: str, seconds: Seconds, meaning: str, seed: int, folder: Path, settings: Mapping[str, Any]
) -> None:
    """Write ``<what>.csv``, ``<what>.png`` and ``bench.json`` to ``folder``, and print the table.

    Args:
        what: the benchmark.
        seconds: of ``take_turns``; ratios are to the first.
        meaning: what the seconds are of.
        seed: for the record.
        folder: made if it is not there.
        settings: for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(seconds.values()))
    rows = []
    for name, values in seconds.items():
        row: dict[str, str | float] = {"what": name}
        for unit, numbers in (("ms", 1e3 * values), ("ratio", values / first)):
            row |= {
                f"{unit}{end}": round(float(x), 4)
                for end, x in zip(("", " low", " high"), spread(numbers), strict=True)
            }
        rows.append(row | {"a second": round(1 / float(np.median(values)), 3)})
    write_csv(folder / f"{what}.csv", rows)
    notes = {"ms": meaning, "ratio": "to the first row in the same round", "low, high": "quartiles of the rounds"}
    write_json(
        folder / "bench.json", {**describe_run(seed, {}), "settings": dict(settings), "meaning": notes, "rows": rows}
    )
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.boxplot([1e3 * values for values in seconds.values()], tick_labels=list(seconds), orientation="horizontal")
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set(xlabel=f"ms: {meaning}", title=what)
    figure.savefig(folder / f"{what}.png", dpi=120)
    print_rows(rows, f"{what}: {meaning}")
    log.info("everything is in %s", folder)
