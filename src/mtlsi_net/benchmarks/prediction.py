"""Prediction benchmark: the command ``predict`` from a folder to files, by PyTorch and ONNX Runtime, on one core and on all."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import pandas as pd
from omegaconf import DictConfig

from mtlsi_net.benchmarks.report import Report, box_plot, quartiles, take_turns
from mtlsi_net.core.errors import UserError

KINDS = {"everything": (), "pictures only": ("results=false", "sheets=false")}
"""What is written -> settings of ``predict``."""
PYTORCH, ONNX_RUNTIME = "PyTorch", "ONNX Runtime"
PINS = hasattr(os, "sched_setaffinity")
"""Whether this system can keep a process on some cores; else all are used."""
MEMORY = "MiB"
CLOCK = 0.01
"""Seconds to which a record is rounded."""
MEANING = {
    "images a second": "from the first image to the last file, without start-up; low, high: quartiles of the rounds",
    "peak MiB": "largest memory of the process, start-up included",
}


def bench_predict(cfg: DictConfig) -> Report:
    """Predict for the images of ``cfg.predict.input``, or for rendered rooms, with ``cfg.predict.ckpt`` in new processes.

    Raises:
        UserError: without ``predict.ckpt``, or if a command fails.
    """
    if cfg.predict.ckpt is None:
        raise UserError("what=predict needs a trained model: predict.ckpt=outputs/<experiment>/<time>")
    cores = sorted(os.sched_getaffinity(0)) if PINS else list(range(os.cpu_count() or 1))
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = {PYTORCH: str(cfg.predict.ckpt)}
        if all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
            models[ONNX_RUNTIME] = str(folder / "model.onnx")
            _run("export", [f"ckpt={cfg.predict.ckpt}", f"out={models[ONNX_RUNTIME]}"], cores)
        source = cfg.predict.input or _render(cfg, folder / "rooms")
        out = folder / "out"
        jobs = [
            partial(_predict, f"{model}, {kind}, {number} of {len(cores)} cores", words, out, cores[:number])
            for model, ckpt in models.items()
            for kind, settings in KINDS.items()
            for words in [[f"ckpt={ckpt}", f"input={source}", f"out={out}", "device=cpu", *settings]]
            for number in sorted({1, len(cores)} if PINS else {len(cores)})
        ]
        measured = take_turns(jobs, cfg.rounds, "predict")
    return _report(measured, {"ckpt": str(cfg.predict.ckpt), "input": cfg.predict.input or list(cfg.predict.size)})


def _render(cfg: DictConfig, folder: Path) -> Path:
    from mtlsi_net.data.rooms.render import render_room  # compiled code, slow to import

    folder.mkdir()
    for index in range(cfg.images):
        image = render_room(cfg.seed, index, *cfg.predict.size).image
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
    return folder


def _predict(name: str, words: Sequence[str], out: Path, cores: Sequence[int], _: int) -> dict[str, float]:
    """Return the images a second, and the memory, of one run of the command."""
    peak = _run("predict", words, cores)
    record = json.loads((out / "run.json").read_text())
    seconds = max(record["seconds"]["predicting"], CLOCK)
    return {name: len(record["predicted"]) / seconds, f"{name}{MEMORY}": peak}


def _run(command: str, words: Sequence[str], cores: Sequence[int]) -> float:
    """Run a command on ``cores``; return its largest memory in MiB."""
    line = [sys.executable, "-m", f"mtlsi_net.{command}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": str(len(cores))}
    pin = partial(os.sched_setaffinity, 0, cores) if PINS else None
    out, errors = subprocess.DEVNULL, subprocess.PIPE
    process = subprocess.Popen(line, env=environment, stdout=out, stderr=errors, text=True, preexec_fn=pin)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = said.strip().splitlines() or [f"exit code {process.returncode}, probably out of memory"]
        raise UserError(f"{' '.join(line[1:])} failed: {lines[-1]}")
    return usage.ru_maxrss / 1024


def _report(measured: pd.DataFrame, settings: dict[str, object]) -> Report:
    speeds = measured[[name for name in measured if not name.endswith(MEMORY)]]
    rows = [
        {"what": name}
        | quartiles(speeds[name], "images a second {}", 3)
        | {"peak MiB": round(float(measured[f"{name}{MEMORY}"].max()), 1)}
        for name in speeds
    ]
    meaning = "images a second from a folder to files"
    return Report(
        {"predict": rows}, box_plot(speeds, meaning), f"predict: {meaning}", {"settings": settings, "meaning": MEANING}
    )
