"""The final table, in the terminal and as Markdown."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from mtlsi_net.lit.module import Scores
from mtlsi_net.tasks.base import Task

Rows = Mapping[str, Scores]


def _columns(rows: Rows, tasks: Mapping[str, Task]) -> list[tuple[str, str, str]]:
    arrows = {True: "↑", False: "↓"}
    scores = next(iter(rows.values()))
    keys = {name: task.main_key(scores[name]) for name, task in tasks.items()}
    return [(name, keys[name], f"{name} {keys[name]} {arrows[task.higher_is_better]}") for name, task in tasks.items()]


def _cells(rows: Rows, tasks: Mapping[str, Task]) -> list[list[str]]:
    columns = _columns(rows, tasks)
    return [[label, *(f"{scores[name][key]:.4g}" for name, key, _ in columns)] for label, scores in rows.items()]


def print_table(rows: Rows, tasks: Mapping[str, Task], title: str) -> None:
    """Print every row's main metric for each task."""
    table = Table(title=title)
    table.add_column("")
    for *_, heading in _columns(rows, tasks):
        table.add_column(heading, justify="right")
    for cells in _cells(rows, tasks):
        table.add_row(*cells)
    Console().print(table)


def markdown_table(rows: Rows, tasks: Mapping[str, Task]) -> str:
    """Return the same table as Markdown."""
    headings = ["", *(heading for *_, heading in _columns(rows, tasks))]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *_cells(rows, tasks)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
