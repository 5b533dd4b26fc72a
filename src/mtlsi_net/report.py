"""Tables of final scores: main metrics in the terminal and as Markdown, those of single classes as CSV."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.scores import ClassScores, Scores
from mtlsi_net.utils.io import write_csv, write_text
from mtlsi_net.utils.run_folder import RunFolder

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


def publish(rows: Rows, tasks: Mapping[str, Task], title: str, folder: RunFolder) -> None:
    """Print the table and keep it as Markdown in the run folder."""
    print_table(rows, tasks, title)
    write_text(folder.table, markdown_table(rows, tasks))


def write_classes(scores: Mapping[str, ClassScores], folder: RunFolder) -> None:
    """Write every class's IoU and labelled pixels, of stage -> task -> class, as CSV; nothing if no task has classes."""
    rows = [
        [stage, task, name, values["IoU"], int(values["pixels"])]
        for stage, by_task in scores.items()
        for task, classes in by_task.items()
        for name, values in classes.items()
    ]
    if rows:
        write_csv(folder.classes, ["stage", "task", "class", "IoU", "pixels"], rows)


def print_classes(scores: ClassScores) -> None:
    """Print every class's IoU, a table for each task."""
    for task, classes in scores.items():
        table = Table("class", title=task)
        table.add_column("IoU ↑", justify="right")
        table.add_column("labelled pixels", justify="right")
        for name, values in classes.items():
            table.add_row(name, f"{values['IoU']:.4g}", f"{values['pixels']:.0f}")
        Console().print(table)


def markdown_table(rows: Rows, tasks: Mapping[str, Task]) -> str:
    """Return the same table as Markdown."""
    headings = ["", *(heading for *_, heading in _columns(rows, tasks))]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *_cells(rows, tasks)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
