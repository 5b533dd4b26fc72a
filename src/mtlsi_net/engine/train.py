"""One training run, from configuration to run folder."""

import logging
import math
import os
import shlex
import sys
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from mtlsi_net.core.config import check_complete, located
from mtlsi_net.core.io import write_json
from mtlsi_net.core.ranks import is_rank_zero
from mtlsi_net.core.run_folder import RunFolder, histories
from mtlsi_net.data.loader import report_worker_crash
from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors
from mtlsi_net.engine.dashboard import close, log_config, log_pictures
from mtlsi_net.engine.pictures import predict_samples, write_grid
from mtlsi_net.engine.record import describe_scores
from mtlsi_net.engine.report import publish, write_classes
from mtlsi_net.engine.trainer import Evaluator, RunResult, best_name, build_module, build_training, open_run
from mtlsi_net.lit.callbacks import ExponentialAverage, other_weights
from mtlsi_net.lit.checkpoint_io import checkpoint_step
from mtlsi_net.lit.resumption import Resumption
from mtlsi_net.metrics.per_image import write_image_sums
from mtlsi_net.models.size import ModelSize, measure_size

log = logging.getLogger(__name__)


def train(cfg: DictConfig, command: str | None = None, resume: Path | None = None) -> RunResult:
    """Train as configured; leave checkpoints, scores, pictures and a record in ``cfg.paths.run_dir``.

    ``command`` repeats the run, for the record (None: this process's own). What follows ``resume``, a checkpoint of this
    run, is what would have followed without the interruption.
    """
    check_complete(cfg)
    folder, config = open_run(cfg)
    folder.create(folder.checkpoints, folder.pictures)
    with folder.occupied() if is_rank_zero() else nullcontext():
        return _train(cfg, folder, config, command, resume)


def _train(
    cfg: DictConfig, folder: RunFolder, config: dict[str, Any], command: str | None, resume: Path | None
) -> RunResult:
    clock = {"start": time.monotonic()}
    _begin(folder, resume)
    L.seed_everything(cfg.seed, workers=True, verbose=False)

    tasks = build_tasks(cfg)
    data = build_data(cfg, tasks)
    network = build_network(cfg, tasks)
    with located("model"):
        network.check_size(data.size)
    size = measure_size(network, data.size)
    _announce(size, len(tasks))
    if cfg.compile:
        network.compile()  # in place: names in checkpoints stay
    priors = fit_priors(data, tasks)
    network.set_priors(priors)
    module = build_module(cfg, network, tasks, priors=priors, config=config)
    how = f"resume with {'the same command' if command else _resume_command(folder)}"
    trainer = build_training(cfg, folder, module, data, how)
    log_config(trainer.loggers, config, size)

    clock["fit"] = time.monotonic()
    with report_worker_crash(data.readings):
        trainer.fit(module, datamodule=data, ckpt_path=resume)  # which makes its loaders when processes are known
    clock["evaluate"] = time.monotonic()
    if resume is None or trainer.global_step > checkpoint_step(resume):
        trainer.save_checkpoint(folder.last, weights_only=False)
    results, gain = _final_scores(trainer, Evaluator(trainer, module, data), folder)
    stage = data.val_stage
    if not is_rank_zero():
        return RunResult(folder, gain)
    for part, split in ((stage, "val"), ("train", "train_scored")):
        samples = predict_samples(module, data.eval_dataloader(split, shared=False), cfg.pictures)
        write_grid(samples, tasks, folder.pictures / f"{part}.png")
        log_pictures(trainer.loggers, samples, tasks, part)
    clock["end"] = time.monotonic()

    names = list(clock)
    spans = {a: clock[b] - clock[a] for a, b in pairwise(names)}
    record = describe_scores(cfg, data, tasks, {"setup": spans.pop("start"), **spans}, command)
    resumed = next(c.record for c in _callbacks(trainer) if isinstance(c, Resumption))
    write_json(folder.record, {**record, "resumed": resumed})
    rows = {label: results[key][stage] for label, key in _labels(cfg.name, stage).items() if key in results}
    publish(rows, tasks, f"{folder.root} ({stage})", folder)
    write_json(folder.metrics, {**results, "model": size, "gain": gain})  # last: it marks the run as finished
    folder.previous.unlink(missing_ok=True)
    close(trainer.loggers, results, gain, folder)
    log.info("everything about this run is in %s", folder.root)
    return RunResult(folder, gain)


def _begin(folder: RunFolder, resume: Path | None) -> None:
    """Prepare the folder for a new run or for the resumed one; only the first process does."""
    if not is_rank_zero():
        return
    if resume is not None:
        folder.rewind_history(checkpoint_step(resume))
        return
    if folder.last.is_file():
        os.replace(folder.last, folder.earlier)
        log.warning("%s holds an earlier run, whose last checkpoint is now %s", folder.root, folder.earlier.name)
    for path in (folder.wandb_id, folder.previous, folder.metrics, *histories(folder)):  # the earlier run's
        path.unlink(missing_ok=True)


def _resume_command(folder: RunFolder) -> str:
    words = [word for word in sys.orig_argv[1:] if not word.startswith(("ckpt=", "paths.run_dir="))]
    return shlex.join(["python", *words, f"ckpt={folder.root}"])


def _labels(name: str, stage: str) -> dict[str, str]:
    chosen_on = "held-out images" if stage == "dev" else "the test set"
    return {
        "constant prediction": "constant",
        f"{name}, last": "last",
        f"{name}, averaged weights": "ema",
        f"{name}, best on {chosen_on}": "best",
    }


def _announce(size: ModelSize, tasks: int) -> None:
    if math.isnan(size["decoder_gflop"]):
        log.info("%.1f M parameters, %.1f GFLOP", size["parameters_m"], size["gflop"])
        return
    log.info(
        "encoder %.1f M parameters, %.1f GFLOP; decoder %.1f M, %.1f GFLOP (%.1f a task) at %dx%d, 2 per multiply-add",
        *(size["encoder_parameters_m"], size["encoder_gflop"], size["decoder_parameters_m"], size["decoder_gflop"]),
        *(size["decoder_gflop"] / tasks, *size["image_size"]),
    )


def _final_scores(trainer: L.Trainer, evaluator: Evaluator, folder: RunFolder) -> tuple[dict[str, Any], float]:
    """Score the averaged, last and best weights; return the scores and the last weights' gain.

    Scores of single classes are written for the last weights only.
    """
    module, stage = evaluator.module, evaluator.data.val_stage
    average = next((c for c in _callbacks(trainer) if isinstance(c, ExponentialAverage)), None)
    results: dict[str, Any] = {}
    if average is not None:
        with average.swapped_in(module.network):
            results["ema"] = {stage: evaluator.score("val")}
    results["last"] = {stage: evaluator.score("val"), "train": evaluator.score("train_scored")}
    gain = module.gain(stage)
    if is_rank_zero():
        write_classes(module.class_scores, folder)
        write_image_sums(folder.per_image, module.image_sums[stage])
    results["constant"] = module.constant_scores
    results["best"] = _best_scores(trainer, evaluator, folder, module.gain(stage, estimate=True))
    return results, gain


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined] # Lightning sets it outside __init__
    return callbacks


def _best_scores(trainer: L.Trainer, evaluator: Evaluator, folder: RunFolder, last_gain: float) -> dict[str, Any]:
    """Score this run's best checkpoint; where no earlier one beats the last weights, these are saved as the best."""
    stage = evaluator.data.val_stage
    keeper = next(c for c in _callbacks(trainer) if isinstance(c, ModelCheckpoint) and c.monitor is not None)
    if keeper.best_model_score is None or last_gain >= float(keeper.best_model_score):
        trainer.save_checkpoint(folder.checkpoints / f"{best_name(evaluator.data)}.ckpt", weights_only=True)
        return {stage: evaluator.module.scores[stage], "step": trainer.global_step}
    saved = torch.load(keeper.best_model_path, weights_only=True)
    with other_weights(evaluator.module, saved["state_dict"]):
        return {stage: evaluator.score("val"), "step": saved["global_step"]}
