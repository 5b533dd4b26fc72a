"""What the tables say, cell by cell."""

import math
from collections.abc import Iterable, Sequence

from mtlsi_net.comparison.intervals import LEVEL, Difference
from mtlsi_net.comparison.published import Published
from mtlsi_net.comparison.tables import Row, Table, heading

NONE = "-"
Cells = list[list[str]]


def number(value: float, form: str = ".4g") -> str:
    """Return a number for a table, a dash for NaN."""
    return format(value, form) if math.isfinite(value) else NONE


def spread(mean: float, deviation: float, form: str = ".4g") -> str:
    """Return mean and, of several seeds, standard deviation."""
    return number(mean, form) + (f" ± {deviation:.2g}" if math.isfinite(deviation) else "")


def percent(value: float, deviation: float = math.nan) -> str:
    """Return a fraction in percent, with its sign."""
    return spread(100 * value, 100 * deviation, "+.2f") if math.isfinite(value) else ""


def limits(pair: tuple[float, float], factor: float = 1.0, form: str = ".4g") -> str:
    """Return an interval, nothing if it has no value."""
    low, high = pair
    return f"[{factor * low:{form}}, {factor * high:{form}}]" if math.isfinite(low) and math.isfinite(high) else ""


def table_cells(table: Table) -> Cells:
    """Return heading and rows of our results."""
    columns = table.columns()
    head = [
        "",
        "n",
        "parameters M",
        "decoder M",
        "decoder GFLOP",
        *(heading(k, h) for k, h in columns.items()),
        "gain %",
    ]
    rows = [
        [
            row.group.label,
            str(len(row.group.runs)),
            *(number(row.size(key)) for key in ("parameters_m", "decoder_parameters_m")),
            in_both(row.size("decoder_gflop"), "FLOP"),
            *(spread(row.group.mean(key), row.group.deviation(key)) for key in columns),
            percent(row.gain.value, row.gain.deviation),
        ]
        for row in table.rows
    ]
    return [head, *rows]


def published_cells(table: Table) -> Cells:
    """Return heading and rows of published results, in the columns of ours."""
    columns = table.columns()
    head = ["published", "backbone", "parameters M", "decoder M", "operations G", "unit"]
    head += [*(heading(k, h) for k, h in columns.items()), "source and remarks"]
    rows = []
    for result in table.published:
        size = result.size
        sizes = [NONE] * 4
        if size is not None:
            sizes = [number(size.parameters_m), number(size.decoder_parameters_m), operations(result), unit(result)]
        scores = [number(result.scores.get(key, math.nan)) for key in columns]
        rows.append([result.model, result.backbone, *sizes, *scores, remarks(result, table)])
    return [head, *rows]


def operations(result: Published) -> str:
    """Return the operations of the network, or of its decoder where only that was counted."""
    size = result.size
    if size is None:
        return NONE
    if math.isnan(size.operations_g) and math.isfinite(size.decoder_operations_g):
        return f"decoder {in_both(size.decoder_operations_g, size.unit)}"
    return f"whole {in_both(size.operations_g, size.unit)}" if math.isfinite(size.operations_g) else NONE


def unit(result: Published) -> str:
    """Return what the operations count, nothing where there are none."""
    return result.size.unit if result.size is not None and operations(result) != NONE else ""


def in_both(count: float, of: str) -> str:
    """Return billions of operations of a unit, in brackets in the other one: a multiply-add is 1 MAC and 2 FLOP."""
    other = {"FLOP": (0.5, "GMAC"), "MAC": (2.0, "GFLOP")}
    if of not in other or not math.isfinite(count):
        return number(count)
    factor, name = other[of]
    return f"{count:.4g} ({factor * count:.4g} {name})"


def remarks(result: Published, table: Table) -> str:
    """Return a published row's source, and its scores by rules that none of our columns has."""
    columns = table.columns()
    others = [
        f"{task} {metric} {value:.4g}"
        for (task, metric), value in result.scores.items()
        if (task, metric) not in columns
    ]
    return "; ".join([result.remarks, *others])


def interval_cells(table: Table) -> Cells:
    """Return heading and rows of the intervals; no rows if there are none."""
    columns = table.columns()
    rows = [
        [
            row.group.label,
            *(limits(row.intervals.scores.get(k, (math.nan,) * 2)) for k in columns),
            limits(row.intervals.gain, 100, "+.2f"),
        ]
        for row in table.rows
        if row.intervals.scores
    ]
    return [["", *(heading(k, h) for k, h in columns.items()), "gain %"], *rows]


def pair_cells(pairs: Sequence[Difference]) -> Cells:
    """Return heading and rows of differences; a star where the interval leaves out 0."""
    rows = []
    for pair in pairs:
        factor, form = (100, "+.2f") if pair.what == "gain" else (1, "+.3g")
        low, high = pair.interval
        star = "*" if low > 0 or high < 0 else ""
        value = format(factor * pair.value, form)
        rows.append([pair.first, pair.second, pair.what, value, limits(pair.interval, factor, form), star])
    return [["first", "second", "score", "first - second", f"{LEVEL:.0%} interval", ""], *rows]


def title(tables: Sequence[Table], index: int) -> str:
    """Return a table's title; of a further one with what it differs in."""
    table = tables[index]
    differs = f" - not comparable with the first table: other {', '.join(table.differs)}" if table.differs else ""
    return f"{table.data}{differs}"


def gain_notes(rows: Iterable[Row]) -> list[str]:
    """Return what each gain refers to, or why a row has none; rows of which the same is true share a line."""
    told: dict[str, list[str]] = {}
    for row in rows:
        labels = {task: own.label for task, own in row.gain.references.items()}
        every = set(labels.values())
        refer = every.pop() if len(every) == 1 else ", ".join(f"{task}: {label}" for task, label in labels.items())
        text = f"over {refer}" + (f"; {row.gain.why}" if row.gain.why else "") if refer else f"none: {row.gain.why}"
        told.setdefault(text, []).append(row.group.label)
    return [f"gain of {', '.join(labels)} {text}" for text, labels in told.items()]
