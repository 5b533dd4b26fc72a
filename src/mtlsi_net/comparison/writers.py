"""The tables as Markdown, CSV and LaTeX."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mtlsi_net.comparison.cells import (
    Cells,
    gain_notes,
    interval_cells,
    number,
    pair_cells,
    percent,
    published_cells,
    remarks,
    spread,
    table_cells,
    title,
)
from mtlsi_net.comparison.intervals import LEVEL, Difference
from mtlsi_net.comparison.published import Published
from mtlsi_net.comparison.runs import Left, Run
from mtlsi_net.comparison.tables import ARROWS, Row, Table, heading

MAX_PAIRS = 30
"""Pairs that Markdown lists; all of them are in ``pairs.csv``."""


def markdown(cells: Cells) -> str:
    """Return cells as a Markdown table; columns that hold words are aligned left."""
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def write_markdown(
    path: Path, tables: Sequence[Table], pairs: Mapping[int, Sequence[Difference]], left: Sequence[Left]
) -> None:
    """Write everything that fits into text.

    Args:
        path: of the file.
        tables: at least one.
        pairs: index of a table -> differences between its rows.
        left: what is not in the tables.
    """
    parts = []
    for index, table in enumerate(tables):
        parts.append(f"## {title(tables, index)}\n\n{markdown(table_cells(table))}\n")
        parts += [f"- {note}\n" for note in (*table.notes, *gain_notes(table.rows))]
        if len(cells := interval_cells(table)) > 1:
            parts.append(f"\n{LEVEL:.0%} intervals over images, of these trained networks:\n\n{markdown(cells)}")
        if pairs.get(index):
            chosen = pairs[index][:MAX_PAIRS]
            more = f" The first {len(chosen)} of {len(pairs[index])}." if len(pairs[index]) > len(chosen) else ""
            parts.append(
                f"\nDifferences on the same resamples of images (* without 0); all are in pairs.csv.{more}\n\n"
            )
            parts.append(markdown(pair_cells(chosen)))
        if table.published:
            parts.append(f"\nPublished results, not ours:\n\n{markdown(published_cells(table))}")
        parts.append("\n")
    if left:
        parts.append("Left out:\n\n" + "".join(f"- {item.what}: {item.why}\n" for item in left))
    path.write_text("".join(parts))


def write_csv(path: Path, tables: Sequence[Table]) -> None:
    """Write one line a row, ours and published told apart by ``kind``; fractions, degrees and metres."""
    lines = []
    for number_, table in enumerate(tables, start=1):
        start = {"table": number_, "data": table.data}
        lines += [{**start, "kind": "ours", **_our_line(row, table)} for row in table.rows]
        lines += [{**start, "kind": "published", **_published_line(result, table)} for result in table.published]
    names = list(dict.fromkeys(name for line in lines for name in line))
    write_lines(path, [names, *([line.get(name, "") for name in names] for line in lines)])


def write_pairs(path: Path, pairs: Mapping[int, Sequence[Difference]]) -> None:
    """Write all differences between rows, gains as fractions."""
    head = ["table", "first", "second", "score", "difference", "low", "high"]
    rows = [[index + 1, p.first, p.second, p.what, p.value, *p.interval] for index, own in pairs.items() for p in own]
    write_lines(path, [head, *rows])


def write_each_run(path: Path, tables: Sequence[Table]) -> None:
    """Write one line a run of ours: its row, scores and gain, its budget, and what repeats it."""
    lines = [
        {"table": index, "label": row.group.label} | _run_line(run, number_, row, table)
        for index, table in enumerate(tables, start=1)
        for row in table.rows
        for number_, run in enumerate(row.group.runs)
    ]
    names = list(dict.fromkeys(name for line in lines for name in line))
    write_lines(path, [names, *([line.get(name, "") for name in names] for line in lines)])


def _run_line(run: Run, number_: int, row: Row, table: Table) -> dict[str, object]:
    config, record = run.config, run.record
    steps, batch = (_at(config, *path) for path in (("trainer", "max_steps"), ("data", "batch_size")))
    hardware: dict[str, object] = record.get("hardware", {})
    gpus = hardware.get("gpus")
    return {
        "seed": config.get("seed", ""),
        **{"/".join(key): run.scores.get(key[0], {}).get(key[1], "") for key in table.columns()},
        "gain": row.gain.seeds[number_] if row.gain.seeds else "",
        **{key: run.model.get(key, "") for key in ("decoder_parameters_m", "decoder_gflop")},
        "steps": steps,
        "batch": batch,
        "images": steps * batch if isinstance(steps, int) and isinstance(batch, int) else "",
        "fit_seconds": _at(record, "seconds", "fit"),
        "commit": record.get("commit") or "",
        "cpu": hardware.get("cpu", ""),
        "cores": hardware.get("cores", ""),
        "gpus": " ".join(map(str, gpus)) if isinstance(gpus, list) else "",
        "command": record.get("command", ""),
    }


def _at(node: object, *path: str) -> object:
    """Return what lies at a path of keys, nothing where there is none."""
    for key in path:
        node = node.get(key, "") if isinstance(node, Mapping) else ""
    return node


def write_lines(path: Path, lines: Iterable[Sequence[object]]) -> None:
    """Write lines as CSV, NaN as nothing."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["" if value != value else value for value in line] for line in lines])


def _our_line(row: Row, table: Table) -> dict[str, object]:
    first = row.group.first
    line: dict[str, object] = {
        "label": row.group.label,
        "n": len(row.group.runs),
        "folders": " ".join(run.name for run in row.group.runs),
        "unit": "FLOP",
        "images_per_second_in_training": row.training_speed,
    }
    line |= {key: row.size(key) for key in ("parameters_m", "decoder_parameters_m", "gflop", "decoder_gflop")}
    line["backbone"] = _backbone(first.config)
    for key in table.columns():
        name, (low, high) = "/".join(key), row.intervals.scores.get(key, (math.nan, math.nan))
        line |= {
            name: row.group.mean(key),
            f"{name}_std": row.group.deviation(key),
            f"{name}_low": low,
            f"{name}_high": high,
        }
    low, high = row.intervals.gain
    return line | {
        "gain": row.gain.value,
        "gain_std": row.gain.deviation,
        "gain_low": low,
        "gain_high": high,
        "remarks": row.gain.why,
    }


def _backbone(config: Mapping[str, object]) -> str:
    return str(_at(config, "backbone", "name"))


def _published_line(result: Published, table: Table) -> dict[str, object]:
    line: dict[str, object] = {"label": result.model, "backbone": result.backbone, "remarks": remarks(result, table)}
    if result.size is not None:
        line |= {
            "unit": result.size.unit,
            "parameters_m": result.size.parameters_m,
            "decoder_parameters_m": result.size.decoder_parameters_m,
            "gflop": result.size.operations_g,
            "decoder_gflop": result.size.decoder_operations_g,
        }
    return line | {"/".join(key): result.scores.get(key, math.nan) for key in table.columns()}


ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
ESCAPES |= {ARROWS[True]: r"$\uparrow$", ARROWS[False]: r"$\downarrow$"} | {char: f"\\{char}" for char in "&%$#_{}"}


def tex(text: str) -> str:
    """Return a text with LaTeX's special characters escaped."""
    return "".join(ESCAPES.get(char, char) for char in text)


def write_tex(path: Path, tables: Sequence[Table]) -> None:
    """Write one booktabs tabular for each table, our best of every column bold, published rows under a rule of their own."""
    parts = ["% \\usepackage{booktabs}\n"]
    for index, table in enumerate(tables):
        columns = list(table.columns())
        width = 3 + len(columns)
        head = ["", "n", *(heading(k, h) for k, h in table.columns().items()), "gain %"]
        lines = [f"% {tex(title(tables, index))}", f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}", "\\toprule"]
        lines += [_tex_line(map(tex, head)), "\\midrule", *(_tex_line(_tex_row(row, table)) for row in table.rows)]
        if table.published:
            lines += ["\\midrule", f"\\multicolumn{{{width}}}{{l}}{{\\emph{{Published by others}}}} \\\\"]
            for result in table.published:
                scores = [number(result.scores.get(key, math.nan)) for key in columns]
                lines.append(_tex_line([f"\\emph{{{tex(f'{result.model}, {result.backbone}')}}}", "", *scores, ""]))
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}\n\n"]))
    path.write_text("".join(parts))


def _tex_row(row: Row, table: Table) -> list[str]:
    cells = [tex(row.group.label), str(len(row.group.runs))]
    for key in table.columns():
        mean = row.group.mean(key)
        text = tex(spread(mean, row.group.deviation(key)))
        cells.append(f"\\textbf{{{text}}}" if mean == table.best(key) else text)
    gains = [own.gain.value for own in table.rows if math.isfinite(own.gain.value)]
    text = tex(percent(row.gain.value, row.gain.deviation))
    return [*cells, f"\\textbf{{{text}}}" if gains and row.gain.value == max(gains) else text]


def _tex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"
