"""Rounds and reports of benchmarks: measurements in turn, quartiles, tables, plot and record."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from mtlsi_net.core.io import write_json
from mtlsi_net.engine.record import describe_run

log = logging.getLogger(__name__)

Row = dict[str, Any]
"""Column -> value; NaN, an empty cell, where it is unknown."""
QUARTILES = {"": 0.5, "low": 0.25, "high": 0.75}
"""Word in a column's name -> which quantile of the rounds it holds."""


def take_turns(jobs: Iterable[Callable[[int], Mapping[Any, float]]], rounds: int, title: str) -> pd.DataFrame:
    """Return a column for each value that the jobs return by name, and a row for each round.

    The jobs take turns, so that ratios hold on a busy machine. (torch.utils.benchmark.Timer calls its statement three
    times per measurement, by default with one thread, and keeps one number of it.) Each is called with
    the number of the round; round 0 warms up and is left out.
    """
    jobs = list(jobs)
    results = []
    for number in track(range(rounds + 1), title, transient=True):
        results.append({name: value for job in jobs for name, value in job(number).items()})
    return pd.DataFrame(results[1:])


def quartiles(values: pd.Series, name: str, digits: int) -> Row:
    """Return median, lower and upper quartile; in their columns' ``name``, nothing, low and high stand for ``{}``."""
    return {name.format(word).strip(): round(float(values.quantile(q)), digits) for word, q in QUARTILES.items()}


@dataclass
class Report:
    """Results of a benchmark.

    Attributes:
        tables: name of the CSV file -> rows of equal keys. The first one is printed.
        figure: the plot.
        title: of the printed table.
        record: what bench.json holds beside the tables and ``describe_run``.
    """

    tables: Mapping[str, Sequence[Row]]
    figure: Figure
    title: str
    record: Mapping[str, Any] = field(default_factory=dict)

    def publish(self, what: str, folder: Path, seed: int, seconds: float) -> None:
        """Write the CSV files, ``<what>.png`` and ``bench.json`` to an existing folder; print a table and its meaning.

        The table named ``what`` is ``rows`` in bench.json; ``seconds`` is what the whole benchmark took.
        """
        for name, rows in self.tables.items():
            pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        self.figure.savefig(folder / f"{what}.png", dpi=120)
        tables = {"rows" if name == what else name: rows for name, rows in self.tables.items()}
        write_json(folder / "bench.json", {**describe_run(seed, {"all": seconds}), **self.record, **tables})
        frame = pd.DataFrame(next(iter(self.tables.values()))).astype(object).fillna("-")
        frame = frame.set_index(frame.columns[0])
        if len(frame) < len(frame.columns):
            frame = frame.T
        print(self.title, frame.to_string(), sep="\n")
        for name, meaning in self.record.get("meaning", {}).items():
            print(f"{name}: {meaning}")
        log.info("tables, plot and record are in %s: open %s", folder, folder / f"{what}.png")


def timings(what: str, seconds: pd.DataFrame, meaning: str, settings: Mapping[str, Any]) -> Report:
    """Return the report of ``take_turns``'s ``seconds`` of ``meaning``, ratios being to the first column."""
    ratios = seconds.div(seconds.iloc[:, 0], axis=0)
    rows = [
        {"what": name}
        | quartiles(1e3 * seconds[name], "ms {}", 4)
        | quartiles(ratios[name], "ratio {}", 4)
        | {"a second": round(1 / seconds[name].median(), 3)}
        for name in seconds
    ]
    notes = {"ms": meaning, "ratio": "to the first row in the same round", "low, high": "quartiles of the rounds"}
    record = {"settings": dict(settings), "meaning": notes}
    return Report({what: rows}, box_plot(1e3 * seconds, f"ms: {meaning}"), f"{what}: {meaning}", record)


def box_plot(values: pd.DataFrame, meaning: str) -> Figure:
    """Return a plot with each column's rounds as a box, above the axis' ``meaning``."""
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(values.columns)), layout="constrained")
    axis = figure.subplots()
    axis.boxplot(values.to_numpy(), tick_labels=list(values), orientation="horizontal")
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel(meaning)
    return figure
