"""Tables of comparable runs, with their numbers, as Markdown, CSV and LaTeX files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mtlsi_net.comparison.bootstrap import GAIN, LEVEL, Difference, Resampled, seeds_of
from mtlsi_net.comparison.gains import PERCENTS, Gain
from mtlsi_net.comparison.identity import Group, deviation, main_metrics, mean
from mtlsi_net.comparison.published import Published
from mtlsi_net.comparison.read import SkippedRun, entry
from mtlsi_net.core.settings import TRAINED_DATA

ARROWS = {True: "↑", False: "↓"}
NONE = "-"
ENDS = ("", "_std", "_low", "_high")
"""Suffixes of a score's columns: mean and deviation over seeds, interval over images and seeds."""

SIZES = ("parameters_m", "decoder_parameters_m", "gflop", "decoder_gflop")

MAX_PAIRS = 30
"""Pairs that Markdown lists; all of them are in ``pairs.csv``."""

DIFFERENCE_HEADS = (
    *("first", "second", "score", "first - second"),
    *(f"{LEVEL:.0%} interval, bootstrap", f"{LEVEL:.0%} interval, t over seeds", "first is"),
)

LATEX = {"±": r"$\pm$", ARROWS[True]: r"$\uparrow$", ARROWS[False]: r"$\downarrow$", "Δ": r"$\Delta$"}
"""Symbols that pandas does not escape."""


@dataclass(frozen=True)
class Table:
    """Rows whose scores can be compared: no two differ in the data or the rules of a task that both have."""

    number: int
    groups: Sequence[Group]
    differs: Sequence[str]  # differences from the first table, in words; empty for the first
    gains: Mapping[str, Gain]  # by label, of these groups and others
    resampled: Mapping[str, Resampled]  # scores on resamples of images, by label, where available
    differences: Sequence[Difference]
    published: Sequence[Published]
    notes: Sequence[str]  # caveats for the reader

    @property
    def data(self) -> str:
        """Name of the data and which of their images were scored."""
        run = self.groups[0].first
        name = entry(run.record, "data", "name") or entry(run.config, "data", "root") or "data"
        return f"{Path(str(name)).name}, {run.stage} images"

    @property
    def title(self) -> str:
        """The data; from the second table on, also how it differs from the first."""
        differs = f" - not comparable with the first table: other {', '.join(self.differs)}" if self.differs else ""
        return f"{self.data}{differs}"

    @cached_property
    def columns(self) -> dict[str, bool]:
        """``task/metric`` -> higher is better: main metrics, then others that published results have too."""
        main = main_metrics(self.groups)
        others = {name: higher for result in self.published for name, higher in result.directions.items()}
        ours = {name for group in self.groups for name in others if group.values(name)}
        return main | {name: higher for name, higher in others.items() if name in ours - main.keys()}

    @property
    def headings(self) -> dict[str, str]:
        """Heading of every score's column in ``rows``."""
        return {name: f"{name.replace('/', ' ')} {ARROWS[higher]}" for name, higher in self.columns.items()}

    @cached_property
    def rows(self) -> pd.DataFrame:
        """All numbers (``kind``: ``ours`` or ``published``), in fractions, degrees and metres; NaN where unknown."""
        rows = [*map(self._our_numbers, self.groups), *map(self._published_numbers, self.published)]
        start = {"table": self.number, "data": self.data}
        return pd.DataFrame([{**start, **row} for row in rows], dtype=object)  # counts stay whole beside NaN

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Return the rows that are ``ours`` or ``published``."""
        return self.rows[self.rows["kind"] == kind]

    def _our_numbers(self, group: Group) -> dict[str, Any]:
        run, resampled = group.first, self.resampled.get(group.label, Resampled())
        scores: dict[str, float] = {}
        for name in (*self.columns, GAIN):
            values = seeds_of(group, self.gains, name)
            spreads = (mean(values), deviation(values), *resampled.interval(name))
            scores |= {f"{name}{end}": value for end, value in zip(ENDS, spreads, strict=True)}
        return {
            "kind": "ours",
            "label": group.label,
            "n": len(group.runs),
            "folders": " ".join(run.name for run in group.runs),
            **self._percents(group),
            "unit": "FLOP",
            "images_per_second_in_training": run.training_speed,
            **{key: float(size) if isinstance(size := run.model.get(key), int | float) else math.nan for key in SIZES},
            "backbone": str(entry(run.config, "backbone", "name", default="")),
            **scores,
            "remarks": self.gains[group.label].why,
        }

    def _percents(self, group: Group) -> dict[str, float]:
        """Return mean and deviation of ``PERCENTS``, which only some data have."""
        own = self.gains[group.label].percents
        return {f"{k}{end}": of(own.get(k, ())) for k in self.percents for end, of in (("", mean), ("_std", deviation))}

    @cached_property
    def percents(self) -> list[str]:
        """Those of ``PERCENTS`` that a row has."""
        return [key for key in PERCENTS if any(self.gains[group.label].percents.get(key) for group in self.groups)]

    def _published_numbers(self, result: Published) -> dict[str, Any]:
        counts = (result.parameters_m, result.decoder_parameters_m, result.operations_g, result.decoder_operations_g)
        others = [f"{k.replace('/', ' ')} {value:.4g}" for k, value in result.scores.items() if k not in self.columns]
        return {
            "kind": "published",
            "label": result.model,
            "unit": result.unit,
            **dict(zip(SIZES, counts, strict=True)),
            "backbone": result.backbone,
            **{name: result.scores.get(name, math.nan) for name in self.columns},
            "remarks": "; ".join([result.remarks, *others]),
        }

    def best(self, name: str) -> float:
        """Return the best mean of our rows in a score or the gain, NaN without rows."""
        means = self.of_kind("ours")[name].astype(float)
        return float(means.max() if self.columns.get(name, True) else means.min())


# ---- numbers as text -------------------------------------------------------------------------------------------------


def number(value: float, form: str = ".4g") -> str:
    """Return a number for a table, a dash for NaN."""
    return format(value, form) if math.isfinite(value) else NONE


def spread(mean: float, deviation: float, form: str = ".4g") -> str:
    """Return mean and, of several seeds, standard deviation."""
    return number(mean, form) + (f" ± {deviation:.2g}" if math.isfinite(deviation) else "")


def percent(value: float, deviation: float = math.nan) -> str:
    """Return a fraction in percent, with its sign; empty for NaN."""
    return spread(100 * value, 100 * deviation, "+.2f") if math.isfinite(value) else ""


def limits(low: float, high: float, factor: float = 1.0, form: str = ".4g") -> str:
    """Return an interval, empty if it has no value."""
    return f"[{factor * low:{form}}, {factor * high:{form}}]" if math.isfinite(low) and math.isfinite(high) else ""


def in_both(count: float, unit: str = "FLOP") -> str:
    """Return billions of operations of a unit, in brackets in the other one: a multiply-add is 1 MAC and 2 FLOP."""
    other = {"FLOP": (0.5, "GMAC"), "MAC": (2.0, "GFLOP")}
    if unit not in other or not math.isfinite(count):
        return number(count)
    factor, name = other[unit]
    return f"{count:.4g} ({factor * count:.4g} {name})"


def operations(whole: float, decoder: float, unit: str) -> str:
    """Return the operations of a network, or of its decoder if only that was counted."""
    if math.isfinite(whole):
        return f"whole {in_both(whole, unit)}"
    return f"decoder {in_both(decoder, unit)}" if math.isfinite(decoder) else NONE


def _score_cells(table: Table, rows: pd.DataFrame) -> dict[str, list[str]]:
    return {head: list(map(spread, rows[name], rows[f"{name}_std"])) for name, head in table.headings.items()}


def our_cells(table: Table, sizes: bool = True) -> pd.DataFrame:
    """Return our rows as text, with or without the networks' sizes."""
    rows = table.of_kind("ours")
    size_cells = {
        "parameters M": rows["parameters_m"].map(number),
        "decoder M": rows["decoder_parameters_m"].map(number),
        "decoder GFLOP": rows["decoder_gflop"].map(in_both),
    }
    cells = {"": rows["label"], "n": rows["n"].map(str), **(size_cells if sizes else {}), **_score_cells(table, rows)}
    cells["gain %"] = list(map(percent, rows["gain"], rows["gain_std"]))
    for key in table.percents:
        pairs = zip(rows[key], rows[f"{key}_std"], strict=True)
        cells[PERCENTS[key]] = [percent(value / 100, spread / 100) for value, spread in pairs]
    return pd.DataFrame(cells)


def published_cells(table: Table) -> pd.DataFrame:
    """Return published rows as text."""
    rows = table.of_kind("published")
    counts = list(map(operations, rows["gflop"], rows["decoder_gflop"], rows["unit"]))
    units = [u if count != NONE else "" if u else NONE for count, u in zip(counts, rows["unit"], strict=True)]
    cells = {
        "published": rows["label"],
        "backbone": rows["backbone"],
        "parameters M": rows["parameters_m"].map(number),
        "decoder M": rows["decoder_parameters_m"].map(number),
        "operations G": counts,
        "unit": units,
    }
    return pd.DataFrame({**cells, **_score_cells(table, rows), "source and remarks": rows["remarks"]})


def interval_cells(table: Table) -> pd.DataFrame:
    """Return the intervals of our rows as text; without rows if no row has one."""
    rows = table.of_kind("ours")
    rows = rows[rows["label"].isin(list(table.resampled))]
    cells = {"": rows["label"]}
    for name, head in table.headings.items():
        cells[head] = list(map(limits, rows[f"{name}_low"], rows[f"{name}_high"]))
    gains = [limits(low, high, 100, "+.2f") for low, high in zip(rows["gain_low"], rows["gain_high"], strict=True)]
    return pd.DataFrame({**cells, "gain %": gains})


def difference_cells(table: Table, limit: int) -> pd.DataFrame:
    """Return the first ``limit`` differences as text; ``first is`` is empty where one of the intervals includes 0."""
    rows = []
    for pair in table.differences[:limit]:
        factor, form = (100, "+.2f") if pair.score == GAIN else (1, "+.3g")
        better = "better" if (pair.low > 0) == table.columns.get(pair.score, True) else "worse"
        above, below = (pair.low > 0 and not pair.seeds_low <= 0), (pair.high < 0 and not pair.seeds_high >= 0)
        rows.append(
            [
                *(pair.first, pair.second, pair.score, f"{factor * pair.difference:{form}}"),
                limits(pair.low, pair.high, factor, form),
                limits(pair.seeds_low, pair.seeds_high, factor, form),
                better if above or below else "",
            ]
        )
    return pd.DataFrame(rows, columns=list(DIFFERENCE_HEADS))


def gain_notes(table: Table) -> list[str]:
    """Return each gain's reference, or why a row has no gain; rows with the same note share one."""
    labels: dict[str, list[str]] = {}
    for group in table.groups:
        gain = table.gains[group.label]
        references = {name.partition("/")[0]: reference.label for name, reference in gain.references.items()}
        names = set(references.values())
        over = names.pop() if len(names) == 1 else ", ".join(f"{task}: {name}" for task, name in references.items())
        text = "; ".join(filter(None, [f"over {over}", gain.why])) if over else f"none: {gain.why}"
        labels.setdefault(text, []).append(group.label)
    if len(labels) == 1 < len(table.groups):
        return [f"gain of all rows {text}".replace("gain of all rows none", "no row has a gain") for text in labels]
    return [f"gain of {', '.join(names)} {text}" for text, names in labels.items()]


# ---- files -----------------------------------------------------------------------------------------------------------


def markdown(cells: pd.DataFrame) -> str:
    """Return cells of text as a Markdown table."""
    escaped = cells.map(lambda cell: cell.replace("|", "\\|"))
    return f"{escaped.to_markdown(index=False, disable_numparse=True)}\n"


def write_markdown(path: Path, tables: Sequence[Table], skipped: Sequence[SkippedRun]) -> None:
    """Write the tables, intervals, differences and notes as Markdown."""
    parts = []
    for table in tables:
        parts.append(f"## {table.title}\n\n{markdown(our_cells(table))}\n")
        parts += [f"- {note}\n" for note in (*table.notes, *gain_notes(table))]
        if len(intervals := interval_cells(table)):
            title = f"{LEVEL:.0%} intervals over images, and over seeds in rows that have several"
            parts.append(f"\n{title}:\n\n{markdown(intervals)}")
        if table.differences:
            title = "Differences; better or worse where no interval includes 0 (with one seed, only the bootstrap's is known)."
            if len(table.differences) > MAX_PAIRS:
                title += f" The first {MAX_PAIRS} of {len(table.differences)}; all are in pairs.csv."
            parts.append(f"\n{title}\n\n{markdown(difference_cells(table, MAX_PAIRS))}")
        if table.published:
            parts.append(f"\nPublished results of other methods:\n\n{markdown(published_cells(table))}")
        parts.append("\n")
    if skipped:
        parts.append("Skipped:\n\n" + "".join(f"- {item.name}: {item.reason}\n" for item in skipped))
    path.write_text("".join(parts))


def write_csvs(folder: Path, tables: Sequence[Table]) -> None:
    """Write ``table.csv``, ``runs.csv`` (one line per run) and ``pairs.csv`` (differences); gains are fractions."""
    pairs = [{"table": table.number, **pair._asdict()} for table in tables for pair in table.differences]
    frames = {
        "table": pd.concat([table.rows for table in tables]),
        "runs": pd.DataFrame([line for table in tables for line in _run_lines(table)], dtype=object),
        "pairs": pd.DataFrame(pairs, columns=["table", *Difference._fields]),
    }
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _run_lines(table: Table) -> Iterator[dict[str, object]]:
    """Yield each run's row: scores, gain, training budget, hardware, and the commands that repeat it."""
    for group in table.groups:
        gains = table.gains[group.label].seeds or (None,) * len(group.runs)
        for run, gain in zip(group.runs, gains, strict=True):
            steps = entry(run.config, "trainer", "max_steps")
            trained = TRAINED_DATA if TRAINED_DATA in run.config else "data"
            batch = entry(run.config, trained, "batch_size")
            gpus = entry(run.record, "hardware", "gpus")
            yield {
                "table": table.number,
                "label": group.label,
                "folder": run.name,
                "seed": run.config.get("seed"),
                **{name: run.scores.get(name) for name in table.columns},
                "gain": gain,
                **{key: run.model.get(key) for key in ("decoder_parameters_m", "decoder_gflop")},
                "steps": steps,
                "batch": batch,
                "images": steps * batch if isinstance(steps, int) and isinstance(batch, int) else None,
                "fit_seconds": entry(run.record, "seconds", "fit"),
                "commit": run.record.get("commit"),
                **{key: entry(run.record, "hardware", key) for key in ("cpu", "cores")},
                "gpus": " ".join(map(str, gpus)) if isinstance(gpus, list) else None,
                "command": run.record.get("command"),
                "trained_by": entry(run.record, "trained", "command"),
            }


def write_tex(path: Path, tables: Sequence[Table]) -> None:
    """Write one booktabs tabular for each table, our best of every column in bold, published rows below a separate rule."""
    text = "\n".join(["% \\usepackage{booktabs}", *(f"% {table.title}\n{_tabular(table)}" for table in tables)])
    for symbol, command in LATEX.items():
        text = text.replace(symbol, command)
    path.write_text(text)


def _tabular(table: Table) -> str:
    ours, published = our_cells(table, sizes=False), published_cells(table)
    published[""] = published["published"] + ", " + published["backbone"]
    cells = pd.concat([ours, published.reindex(columns=ours.columns, fill_value="")], ignore_index=True)
    styles = pd.DataFrame("", cells.index, cells.columns)
    styles.iloc[len(ours) :, 0] = "emph:--rwrap;"
    numbers, scores = table.of_kind("ours"), {**table.headings, GAIN: "gain %"}
    for name, head in scores.items():
        best = numbers[name] == table.best(name)
        styles.loc[: len(ours) - 1, head] = best.map({True: "textbf:--rwrap;", False: ""})
    style = cells.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    form = "l" + "r" * (len(cells.columns) - 1)
    lines = style.apply(lambda _: styles, axis=None).to_latex(hrules=True, column_format=form).splitlines(keepends=True)
    if table.published:
        title = f"\\midrule\n\\multicolumn{{{len(cells.columns)}}}{{l}}{{\\emph{{Published by others}}}} \\\\\n"
        lines.insert(-2 - len(published), title)
    return "".join(lines)
