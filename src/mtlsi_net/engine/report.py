"""Tables of final scores: main metrics in the terminal and as Markdown, those of single classes as CSV."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from mtlsi_net.core.io import write_csv, write_text
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.confusion import draw_confusion
from mtlsi_net.tasks.base import Confusion, Task
from mtlsi_net.tasks.metrics import ClassScores, Scores


def publish(rows: Mapping[str, Scores], tasks: Mapping[str, Task], title: str, folder: RunFolder) -> None:
    """Print the main metric of every row (label -> scores) for each task; keep the table as Markdown in the run folder."""
    scores = next(iter(rows.values()))
    keys = {name: task.main_key(scores[name]) for name, task in tasks.items()}
    arrows = {name: "↑" if task.higher_is_better else "↓" for name, task in tasks.items()}
    headings = ["", *(f"{name} {key} {arrows[name]}" for name, key in keys.items())]
    cells = [[label, *(f"{own[name][key]:.4g}" for name, key in keys.items())] for label, own in rows.items()]
    table = Table("", title=title)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in cells:
        table.add_row(*row)
    _print(table)
    lines = [headings, ["---", *["---:"] * len(keys)], *cells]
    write_text(folder.table, "".join(f"| {' | '.join(line)} |\n" for line in lines))


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


def write_confusions(
    confusions: Mapping[str, Mapping[str, Confusion]], folder: RunFolder, pictures: bool = True
) -> None:
    """Write ``confusion/<stage>_<task>.csv`` and ``.png`` for stage -> task -> matrix; nothing if no task has classes."""
    for stage, by_task in confusions.items():
        for task, confusion in by_task.items():
            folder.create(folder.confusion)
            stem = folder.confusion / f"{stage}_{task}"
            rows = zip(confusion.names, confusion.counts.tolist(), strict=True)
            columns = ["labelled as (row), predicted as (column): pixels", *confusion.names]
            write_csv(stem.with_name(f"{stem.name}.csv"), columns, ([name, *counts] for name, counts in rows))
            if pictures:
                draw_confusion(confusion, f"{task} ({stage})", stem.with_name(f"{stem.name}.png"))


def print_classes(scores: ClassScores) -> None:
    """Print every class's IoU, a table for each task."""
    for task, classes in scores.items():
        table = Table("class", title=task)
        table.add_column("IoU ↑", justify="right")
        table.add_column("labelled pixels", justify="right")
        for name, values in classes.items():
            table.add_row(name, f"{values['IoU']:.4g}", f"{values['pixels']:.0f}")
        _print(table)


def _print(table: Table) -> None:
    """Print a table; brackets and colons in names are no markup."""
    Console(markup=False, emoji=False).print(table)
