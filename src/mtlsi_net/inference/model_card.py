"""Model card: origin, tasks, scores and licences of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlsi_net.core.licences import UNSTATED, licences_of
from mtlsi_net.core.run_folder import LAST, RunFolder, read_object
from mtlsi_net.tasks.base import Task

WEIGHTS = {LAST: "last", "best.ckpt": "best", "best_on_test.ckpt": "best"}
"""Checkpoint file -> name of its scores in metrics.json."""
UNITS = {
    "classes": "class of each pixel",
    "scalar": "metres",
    "vector": "unit vectors x, y, z",
    "binary": "probability",
}


def unit_of(task: Task) -> str:
    """Return what a task's predictions are, in words: metres, or another unit that the task names."""
    unit = getattr(task, "unit", "m")
    return UNITS[task.target.kind] if unit == "m" else str(unit)


def describe_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a checkpoint: experiment, step, seed, commit, licences; and scores from its run folder."""
    config = checkpoint["config"]
    about = {
        "experiment": config.get("name"),
        "network": str(config["model"]["_target_"]).rpartition(".")[2],
        "backbone": (config.get("backbone") or {}).get("name"),
        "step": checkpoint.get("global_step"),
        "seed": config.get("seed"),
        "licences": checkpoint.get("licences") or licences_of(config),
    }
    folder = RunFolder.of_checkpoint(path)
    if folder is None or path.name not in WEIGHTS:
        return about
    record, scores = (read_object(file) for file in (folder.record, folder.metrics))
    about |= {key: record[key] for key in ("commit", "hardware") if key in record}
    if stages := scores.get(WEIGHTS[path.name]):
        stage = "val" if "val" in stages else next(iter(stages))
        about |= {"scores": stages[stage], "scored_on": stage}
    return about


def describe_tasks(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return the meaning of each task's numbers: kind, unit and class names."""
    return {
        name: {"kind": task.target.kind, "unit": unit_of(task), "classes": list(task.class_names)}
        for name, task in tasks.items()
    }


def model_card(about: Mapping[str, Any], tasks: Mapping[str, Task]) -> str:
    """Return the card's text, Markdown."""
    lines = [
        f"# {about.get('network', 'A network')} on {about.get('backbone') or 'an encoder of its own'}",
        "",
        "Predicts several pixel-level tasks from one RGB image, made with the MTLSI-Net suite "
        "([paper of the method](https://arxiv.org/abs/2604.01995)).",
        "",
        "```python",
        "import mtlsi_net",
        "",
        'model = mtlsi_net.load("FOLDER")  # this folder; from the hub: Model.from_pretrained("USER/NAME")',
        'result = model.predict("photo.jpg")',
        f'result["{next(iter(tasks))}"].numpy()',
        "```",
        "",
        "| task | result |",
        "|---|---|",
        *(f"| {name} | {unit_of(task)}{_classes(task)} |" for name, task in tasks.items()),
    ]
    scores: Mapping[str, Mapping[str, float]] = about.get("scores") or {}
    mains = {name: tasks[name].main_key(scores[name]) for name in scores if name in tasks}
    if mains:
        lines += ["", f"Scores on `{about.get('scored_on')}`, as fractions, metres and degrees:", ""]
        lines += ["| task | metric | value |", "|---|---|---:|"]
        values = {name: scores[name][key] for name, key in mains.items()}
        lines += [f"| {name} | {mains[name]} | {value:.4g} |" for name, value in values.items() if value is not None]
    facts = {"experiment": "experiment", "steps": "step", "seed": "seed", "commit": "commit"}
    lines += ["", "How it was made:", ""]
    lines += [f"- {words}: {about[key]}" for words, key in facts.items() if about.get(key) is not None]
    lines += ["", "## Licences", "", "Weights inherit the terms of what they were made from:", ""]
    licences: Mapping[str, str] = about.get("licences") or {"": UNSTATED}
    lines += [f"- {part}: {terms}" for part, terms in licences.items()]
    return "\n".join(lines) + "\n"


def _classes(task: Task) -> str:
    return f": {', '.join(task.class_names)}" if task.class_names else ""
