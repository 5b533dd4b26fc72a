"""One training run, from configuration to run folder."""

import logging
import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from mtlsi_net.core.commands import PHOTOS, command_line
from mtlsi_net.core.config import check_complete, located
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import write_json, write_text
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import RunFolder, histories, slurm_job
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.loader import report_worker_crash
from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors
from mtlsi_net.engine.dashboard import close, log_config, log_pictures
from mtlsi_net.engine.extend import inherit
from mtlsi_net.engine.pictures import predict_samples, write_grid
from mtlsi_net.engine.record import describe_scores
from mtlsi_net.engine.report import publish, write_classes, write_confusions
from mtlsi_net.engine.start import Start, plan_start
from mtlsi_net.engine.trainer import (
    Evaluator,
    RunResult,
    build_module,
    build_training,
    check_recipe,
    open_run,
    write_config,
)
from mtlsi_net.lit.callbacks import ExponentialAverage, other_weights
from mtlsi_net.lit.checkpoint_io import checkpoint_step
from mtlsi_net.lit.interruption import LastCheckpoint, interruptible, stop_waiting
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.origin import Origin
from mtlsi_net.lit.resumption import Resumption
from mtlsi_net.metrics.per_image import write_image_sums
from mtlsi_net.models.size import ModelSize, measure_size
from mtlsi_net.tasks.base import Task

log = logging.getLogger(__name__)


class Clock:
    """Durations of a run's phases, the first of which is ``setup``."""

    def __init__(self) -> None:
        self._started = {"setup": time.monotonic()}

    def next(self, phase: str) -> None:
        """Start the next phase."""
        self._started[phase] = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return the seconds that each phase took until now."""
        times = [*self._started.values(), time.monotonic()]
        return {name: end - start for name, (start, end) in zip(self._started, pairwise(times), strict=True)}


@dataclass(frozen=True)
class Training:
    """One run, ready to be trained."""

    cfg: DictConfig
    folder: RunFolder
    tasks: dict[str, Task]
    data: MultiTaskDataModule
    module: MultiTaskModule
    trainer: L.Trainer
    size: ModelSize


def train(
    cfg: DictConfig, command: str | None = None, resume: Path | None = None, parent: RunFolder | None = None
) -> RunResult:
    """Train as configured; leave checkpoints, scores, pictures and a record in ``cfg.paths.run_dir``.

    ``command`` repeats the run, for the record (None: this process's own). What follows ``resume``, a checkpoint of this
    run, is what would have followed without the interruption; if it is one of ``parent``, the run extends that one.
    """
    check_complete(cfg)
    check_recipe(cfg)
    start = plan_start(cfg, resume, parent)
    folder, config = open_run(cfg)
    folder.create(folder.checkpoints, folder.pictures)
    how = f"resume with {'the same command' if command else resume_command(folder)}"
    with folder.occupied() if is_rank_zero() else nullcontext(), interruptible(lambda: folder.kept(how)):
        clock = Clock()
        if resume is None:
            folder.refuse_another_run()
        write_config(folder, config)  # not before: the folder may be that of a run in progress
        prepare_folder(folder, resume, parent)
        run = build(cfg, folder, config, how, start)
        clock.next("fit")
        fit(run, resume, how)
        clock.next("evaluate")
        results, skill = score(run)
        record(run, results, skill, clock, command)
    return RunResult(folder, skill)


def build(cfg: DictConfig, folder: RunFolder, config: dict[str, Any], how: str, start: Start) -> Training:
    """Return a run's tasks, data, network and trainer; ``how`` is the instruction for resuming it."""
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    tasks = build_tasks(cfg)
    data = build_data(cfg, tasks)
    network = build_network(start.network_config(cfg), tasks)
    with located("model"):
        network.check_size(data.size)
    size = measure_size(network, data.size)
    log_size(size, len(tasks))
    if cfg.compile:
        log.info("compile=true: the first steps compile the network, which takes minutes")
        torch.compiler.reset()  # the networks of a sweep's jobs in one process share a limited cache
        network.compile()  # in place: names in checkpoints stay
    priors = fit_priors(data, tasks)
    network.set_priors(priors)
    terms = start.initialise(network, tasks)
    module = build_module(cfg, network, tasks, priors=priors, config=config)
    module.inherited_terms = terms
    trainer = build_training(cfg, folder, module, data, how, start.origin)
    log_config(trainer.loggers, config, size)
    return Training(cfg, folder, tasks, data, module, trainer, size)


def fit(run: Training, resume: Path | None, how: str = "resume with ckpt=last") -> None:
    """Train to the end, from the start or from a checkpoint; ``last.ckpt`` is then of the last step."""
    crashes = report_worker_crash(run.data.readings, lambda: run.folder.kept(how))
    with crashes, explained_batch_norm(run.data.batch_size, run.data.size):
        run.trainer.fit(run.module, datamodule=run.data, ckpt_path=resume)
    keeper = next(c for c in _callbacks(run.trainer) if isinstance(c, LastCheckpoint))
    if max(keeper.saved_at, -1 if resume is None else checkpoint_step(resume)) < run.trainer.global_step:
        run.trainer.save_checkpoint(run.folder.last, weights_only=False)
    stop_waiting()


@contextmanager
def explained_batch_norm(batch_size: int, size: tuple[int, int]) -> Iterator[None]:
    """Turn torch's refusal to normalise one value per channel into a UserError."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch norm has only one value per channel where a map is 1x1, with data.batch_size={batch_size} and "
            f"data.size=[{size[0]},{size[1]}] ({error}): raise one of the two, or choose a network without batch norm"
        ) from error


def score(run: Training) -> tuple[dict[str, Any], float]:
    """Score the last, best and averaged weights, unless a validation has; return the scores and the last weights' skill.

    Scores of single classes and images are written for the last weights only.
    """
    module, stage, evaluator = run.module, run.data.val_stage, Evaluator(run.trainer, run.module, run.data)
    estimated = _skill_as_in_validations(run, evaluator)
    if run.trainer.global_step not in module.complete_scores:
        evaluator.score("val")
    results: dict[str, Any] = {"last": {stage: module.scores[stage], "train": evaluator.score("train_scored")}}
    skill = module.skill(stage)
    if is_rank_zero():
        write_classes(module.class_scores, run.folder)
        write_confusions(module.confusions, run.folder, pictures=run.cfg.pictures > 0)
        write_image_sums(run.folder.per_image, module.image_sums[stage])
    results["constant"] = module.constant_scores
    best = _score_best(run, evaluator, module.skill(stage, estimate=True) if estimated is None else estimated)
    results |= {} if best is None else {"best": best}
    average = next((c for c in _callbacks(run.trainer) if isinstance(c, ExponentialAverage)), None)
    if average is not None:
        with average.swapped_in(module.network):
            results["ema"] = {stage: evaluator.score("val")}
    return results, skill


def record(run: Training, results: dict[str, Any], skill: float, clock: Clock, command: str | None) -> None:
    """Write pictures, tables and the record; ``metrics.json``, which marks the run as finished, comes last."""
    if not is_rank_zero():
        return
    folder, tasks, loggers, stage = run.folder, run.tasks, run.trainer.loggers, run.data.val_stage
    run.module.to(run.trainer.strategy.root_device)  # Lightning has moved it to the CPU
    for part, split in ((stage, "val"), ("train", "train_scored")):
        with run.trainer.precision_plugin.forward_context():
            samples = predict_samples(run.module, run.data, split, run.cfg.pictures)
        write_grid(samples, tasks, folder.pictures / f"{part}.png")
        log_pictures(loggers, samples, tasks, part)
    described = describe_scores(run.cfg, run.data, tasks, clock.seconds(), command)
    resumed = next(c.record for c in _callbacks(run.trainer) if isinstance(c, Resumption))
    origin = next(c.record for c in _callbacks(run.trainer) if isinstance(c, Origin))
    write_json(folder.record, {**described, **origin, "resumed": resumed})
    labels = result_labels(run.cfg.name, run.data.scored_set)
    publish(
        {labels[key]: results[key][stage] for key in labels if key in results},
        tasks,
        f"{folder.root} ({stage})",
        folder,
    )
    write_json(folder.metrics, {**results, "model": run.size, "skill": skill})
    folder.previous.unlink(missing_ok=True)
    close(loggers, results, skill, folder)
    log.info("everything about this run is in %s", folder.root)
    log.info("predict with it: %s", command_line("predict", f"ckpt={folder.root}", PHOTOS))


def prepare_folder(folder: RunFolder, resume: Path | None, parent: RunFolder | None = None) -> None:
    """Prepare the folder for a new run, for the resumed one, or for one that extends ``parent``; the first process does.

    A new run replaces what one without a checkpoint has left there.
    """
    if not is_rank_zero():
        return
    if (job := slurm_job()) is not None:
        write_text(folder.job, job)
    if parent is not None:
        inherit(parent, folder)
    if resume is not None:
        folder.rewind_history(checkpoint_step(resume))
        return
    for path in (*histories(folder), folder.wandb_id, *folder.checkpoints.glob("best*.ckpt")):
        path.unlink(missing_ok=True)


def resume_command(folder: RunFolder) -> str:
    """Return this process's command, changed to resume the run in a folder."""
    words = [word for word in sys.orig_argv[1:] if not word.startswith(("ckpt=", "paths.run_dir="))]
    return shlex.join(["python", *words, f"ckpt={folder.root}"])


def result_labels(name: str, chosen_on: str) -> dict[str, str]:
    """Return the keys of ``metrics.json`` in the table's order, and the name that each has there."""
    return {
        "constant": "constant prediction",
        "last": f"{name}, last",
        "ema": f"{name}, averaged weights",
        "best": f"{name}, best on {chosen_on}",
    }


def log_size(size: ModelSize, tasks: int) -> None:
    """Log parameters and operations of encoder and decoder."""
    if math.isnan(size["decoder_gflop"]):
        log.info("%.1f M parameters, %.1f GFLOP", size["parameters_m"], size["gflop"])
        return
    log.info(
        "encoder %.1f M parameters, %.1f GFLOP; decoder %.1f M, %.1f GFLOP (%.1f a task) at %dx%d, 2 per multiply-add",
        *(size["encoder_parameters_m"], size["encoder_gflop"], size["decoder_parameters_m"], size["decoder_gflop"]),
        *(size["decoder_gflop"] / tasks, *size["image_size"]),
    )


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined] # Lightning sets it outside __init__
    return callbacks


def _skill_as_in_validations(run: Training, evaluator: Evaluator) -> float | None:
    """Return the last weights' skill on the part of the images that validations see; None if that is all of them."""
    module, last = run.module, run.module.last_validation
    if not module.limited:
        return None
    if last is not None and last[0] == run.trainer.global_step:
        return last[1]
    evaluator.score(run.data.training_split)
    skill = module.skill(run.data.val_stage, estimate=True)
    del module.constant_scores[run.data.val_stage]  # of that part; it is scored on all images, too
    return skill


def _score_best(run: Training, evaluator: Evaluator, last_skill: float) -> dict[str, Any] | None:
    """Return the scores of this run's best checkpoint; None, with a warning, if not every process finds it.

    Where no earlier one beats the last weights, these are saved as the best.
    """
    stage, trainer = run.data.val_stage, run.trainer
    keeper = next(c for c in _callbacks(trainer) if isinstance(c, ModelCheckpoint) and c.monitor == f"{stage}/skill")
    if keeper.best_model_score is None or last_skill >= float(keeper.best_model_score):
        trainer.save_checkpoint(run.folder.checkpoints / f"{keeper.filename}.ckpt", weights_only=True)
        return {stage: run.module.scores[stage], "step": trainer.global_step}
    if not trainer.strategy.reduce_boolean_decision(Path(keeper.best_model_path).is_file()):  # in every process
        log.warning(
            "%s is gone, or on the disk of one node only: metrics.json has no scores of the best weights",
            keeper.best_model_path,
        )
        return None
    saved = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
    if saved["global_step"] == trainer.global_step:  # the last weights, whose skill was rounded up for the callback
        return {stage: run.module.scores[stage], "step": trainer.global_step}
    if saved["global_step"] in run.module.complete_scores:
        return {stage: run.module.complete_scores[saved["global_step"]], "step": saved["global_step"]}
    with other_weights(evaluator.module, saved["state_dict"]):
        return {stage: evaluator.score("val"), "step": saved["global_step"]}
