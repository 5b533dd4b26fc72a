"""Evaluation of a checkpoint from its file alone, or of a network from outside."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core import ranks
from mtlsi_net.core.commands import compare_line
from mtlsi_net.core.config import as_list, check_complete
from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.core.io import write_json
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import RunFolder, read_object
from mtlsi_net.core.settings import TRAINED_DATA
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors, open_data
from mtlsi_net.engine.checkpoint import find_checkpoint, load_checkpoint, load_weights, without_downloads
from mtlsi_net.engine.other_data import Match, data_differences, match_tasks, read_class_maps, with_other_data
from mtlsi_net.engine.pictures import predict_samples, write_grid
from mtlsi_net.engine.record import describe_scores
from mtlsi_net.engine.report import print_classes, publish, write_classes, write_confusions
from mtlsi_net.engine.trainer import (
    Evaluator,
    RunResult,
    build_module,
    build_scored_module,
    build_trainer,
    open_scoring,
)
from mtlsi_net.engine.trust import trusting
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.metrics.per_image import write_image_sums
from mtlsi_net.models.size import measure_size
from mtlsi_net.tasks.base import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """A network with its weights, ready to be examined, and the run folder; ``label`` names the weights in tables."""

    label: str
    run: DictConfig
    folder: RunFolder
    tasks: dict[str, Task]
    data: MultiTaskDataModule
    module: MultiTaskModule
    differences: Sequence[str] = ()  # from training, of other data


def restore(cfg: DictConfig, *, only_scored: bool = False) -> Restored:
    """Rebuild the run of ``cfg.ckpt`` from the configuration inside it; ``cfg`` may override what is about this machine.

    ``only_scored``: ``cfg`` may also name another data set or another list of images; then only these are read.

    Raises:
        UserError: no checkpoint is given, or the checkpoint, its data or the folder cannot be used.
    """
    if cfg.ckpt is None:
        raise UserError("ckpt=FILE must be given: a checkpoint of this suite")
    other = "_target_" in cfg.data
    _check_choices(cfg, only_scored=only_scored)
    with trusting(as_list(cfg.get("trust", []))):
        checkpoint = load_checkpoint(find_checkpoint(Path(cfg.ckpt)))
    before = OmegaConf.create(checkpoint["config"])
    assert isinstance(before, DictConfig)
    paths = OmegaConf.to_container(cfg.paths, resolve=True)  # named after this command, not after the run
    changed = with_other_data(before, cfg) if other else _with_settings(before, cfg)
    run = OmegaConf.merge(changed, {"paths": paths, "logger": None, TRAINED_DATA: before.data})
    assert isinstance(run, DictConfig)
    run.trainer = cfg.trainer  # not merged: how many processes trained says nothing of how many evaluate
    if checkpoint["max_steps"] is not None:
        run.trainer.max_steps = checkpoint["max_steps"]  # by which compare tells trainings apart
    without_downloads(run)
    trained = build_tasks(run)
    match = (
        match_tasks(trained, build_tasks(cfg), read_class_maps(_path(cfg.class_map))) if other else Match(dict(trained))
    )
    if other:
        run.tasks = {name: cfg.tasks[name] for name in match.tasks}
    folder, config = open_scoring(run)
    tasks = _without(match.tasks, list(cfg.get("without", [])))
    data = _scored_data(run, tasks, cfg.split) if other or cfg.get("split", "val") != "val" else build_data(run, tasks)
    if other:
        sizes = checkpoint.get("validated_on")
        match.differences += data_differences(before, None if sizes is None else ImageSizes.load(sizes), data)
    for difference in match.differences:
        log.info("differs from training: %s", difference)
    network = build_network(run, trained)
    module = build_module(run, network, trained, priors=checkpoint["priors"], config=config)
    load_weights(module, checkpoint["state_dict"], f"checkpoint {cfg.ckpt}")
    module.tasks = tasks
    log.info("%s is at step %d", cfg.ckpt, checkpoint["global_step"])
    return Restored(str(cfg.ckpt), run, folder, tasks, data, module, match.differences)


def _check_choices(cfg: DictConfig, *, only_scored: bool) -> None:
    """Raise a UserError for groups and settings that a checkpoint leaves no room for."""
    other = "_target_" in cfg.data
    chosen = {
        "data": other and not only_scored,
        "task_set": bool(cfg.tasks) and not (other and only_scored),
        "model": cfg.get("model") is not None,
    }
    if any(chosen.values()):
        names = ", ".join(f"{group}=" for group, given in chosen.items() if given)
        raise UserError(f"ckpt={cfg.ckpt} holds data, tasks and model; leave out {names} (data.root=... may stay)")
    if cfg.get("class_map") is not None and not (other and only_scored):
        raise UserError(
            "class_map says how classes of a checkpoint stand for those of other data; give data=..., or leave it out"
        )
    if cfg.get("split", "val") != "val" and not only_scored:
        raise UserError(f"split={cfg.split} is a setting of evaluate alone; leave it out")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _with_settings(run: DictConfig, cfg: DictConfig) -> DictConfig:
    """Return the run's configuration with those settings of its data that ``cfg`` has."""
    changed = {key: value for key, value in cfg.data.items() if value is not None}
    changed |= {"augment": False, "extra_augmentations": []}  # nothing is trained
    changed["decoded_dir"] = cfg.data.get("decoded_dir")  # a folder of the machine that trained
    merged = OmegaConf.merge(run, {"data": changed})
    assert isinstance(merged, DictConfig)
    return merged


def _without(tasks: Mapping[str, Task], without: Sequence[str]) -> dict[str, Task]:
    for name in without:
        choose("without", name, tasks)
    kept = {name: task for name, task in tasks.items() if name not in without}
    if not kept:
        raise UserError(f"without={list(without)} leaves no task to score")
    return kept


def _scored_data(run: DictConfig, tasks: Mapping[str, Task], split: str) -> MultiTaskDataModule:
    """Return the data module with the images of one list to score, and nothing to train on."""
    data = open_data(run, tasks)
    ranks.rank_zero_first("prepare data", data.prepare_data)
    data.score_list(split)
    return data


def assemble_external(cfg: DictConfig) -> Restored:
    """Build a network that comes with its own weights (``model=external``) on ``cfg``'s data and tasks.

    Raises:
        UserError: settings that are missing, or a network, data or folder that cannot be used.
    """
    if cfg.get("model") is None:
        raise UserError("give a checkpoint of this suite, ckpt=FILE, or model=external model.target=... data=...")
    if "_target_" not in cfg.data:
        raise UserError("model=external needs data=nyud, data=pascal or another data set")
    check_complete(cfg)
    folder, config = open_scoring(cfg)
    tasks = build_tasks(cfg)
    network = build_network(cfg, tasks)
    data = build_data(cfg, tasks)
    priors = fit_priors(data, tasks)
    if cfg.split != "val":
        data.score_list(cfg.split)
    module = build_scored_module(network, tasks, priors=priors, config=config)
    return Restored(str(cfg.model.get("target", cfg.model._target_)), cfg, folder, tasks, data, module)


def evaluate(cfg: DictConfig) -> RunResult:
    """Score a network on the images of ``cfg.split``; leave scores, pictures and a record in ``cfg.paths.run_dir``.

    ``cfg.ckpt`` names the checkpoint; without one ``cfg.model`` is a network from outside.
    """
    restored = assemble_external(cfg) if cfg.ckpt is None else restore(cfg, only_scored=True)
    folder, tasks, data, module = restored.folder, restored.tasks, restored.data, restored.module
    trainer = build_trainer(restored.run, folder)
    scores = Evaluator(trainer, module, data).score("val")

    stage = data.val_stage
    result = RunResult(folder, module.skill(stage))
    if not is_rank_zero():
        return result
    size = measure_size(module.network, data.size)
    write_json(folder.metrics, {"last": {stage: scores}, "constant": module.constant_scores, "model": size})
    differences = {"differs_from_training": list(restored.differences)} if restored.differences else {}
    trained = {} if cfg.ckpt is None else {"trained": training_record(find_checkpoint(Path(cfg.ckpt)))}
    write_json(folder.record, describe_scores(restored.run, data, tasks, {}) | differences | trained)
    write_classes(module.class_scores, folder)
    write_confusions(module.confusions, folder, pictures=restored.run.pictures > 0)
    write_image_sums(folder.per_image, module.image_sums[stage])
    folder.create(folder.pictures)
    samples = predict_samples(module, data, "val", restored.run.pictures)
    write_grid(samples, tasks, folder.pictures / f"{stage}.png")
    rows = {"constant prediction": module.constant_scores[stage], restored.label: scores}
    publish(rows, tasks, f"{data.root} ({stage})", folder)
    if cfg.print_classes:
        print_classes(module.class_scores[stage])
    log.info("scores and pictures are in %s; compare them: %s", folder.root, compare_line(folder.root))
    return result


def training_record(checkpoint: Path) -> dict[str, Any]:
    """Return command and commit of the training that left a checkpoint in its run folder; empty if they are not known."""
    folder = RunFolder.of_checkpoint(checkpoint)
    record = {} if folder is None else read_object(folder.record)
    return {key: record[key] for key in ("command", "commit") if key in record}
