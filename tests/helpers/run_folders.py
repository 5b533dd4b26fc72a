"""Run folders as finished runs leave them, written directly."""

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from mtlsi_net.comparison.read import Run, read_run
from mtlsi_net.metrics.per_image import ImageSums, write_image_sums

SCORES = {"semseg": {"mIoU": 0.5}, "depth": {"rmse": 0.6}}
CONFIG: dict[str, Any] = {
    "name": "toy",
    "seed": 0,
    "data": {"root": "/data/toy", "seed": 0, "scale": 1.0, "batch_size": 4},
    "backbone": {"name": "tiny", "pretrained": False, "image_size": [48, 64]},
    "model": {"_target_": "mtlsi_net.models.baselines.invpt.InvPTNet", "width": 64},
    "trainer": {"max_steps": 100},
    "paths": {"run_dir": "somewhere"},
}
DIGESTS = {name: f"{number:064x}" for number, name in enumerate(("lists", "image", "semseg", "depth", "boundary"), 1)}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with dotted keys set."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        *path, last = name.split(".")
        place = result
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return result


def write_run(
    folder: Path,
    scores: dict[str, dict[str, float | None]] | None = None,
    config: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    stage: str = "val",
    images: dict[str, list[list[float]]] | None = None,
    curves: str = "",
) -> Path:
    """Write a run folder; return it.

    Args:
        folder: of the run.
        scores: task -> metric -> value.
        config: dotted settings that differ from ``CONFIG``.
        record: dotted entries that differ from a complete ``run.json``.
        stage: of the scores.
        images: ``task/metric`` -> each image's sums of a ratio, (N, 2); ids are a, b, ...
        curves: content of ``metrics.csv``.
    """
    scores = scores or SCORES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, config or {})))
    sizes = {"parameters_m": 2.5, "decoder_parameters_m": 0.5, "gflop": 3.0, "decoder_gflop": 1.0}
    (folder / "metrics.json").write_text(
        json.dumps({"last": {stage: scores}, "best": {stage: scores, "step": 50}, "model": sizes})
    )
    complete = {
        "command": "python -m mtlsi_net.train",
        "commit": "0123abc",
        "hardware": {"cpu": "toy", "cores": 2, "threads": 2, "gpus": []},
        "protocol": "1",
        "metrics": {task: {"pooled_over": "pixels"} for task in scores},
        "data": {
            "name": "nyud",
            "stage": stage,
            "scale": 1.0,
            "parts": {k: DIGESTS.get(k, k) for k in ("lists", "image", *scores)},
        },
        "seconds": {"fit": 40.0},
    }
    (folder / "run.json").write_text(json.dumps(merged(complete, record or {})))
    if images:
        ids = [chr(ord("a") + i) for i in range(len(next(iter(images.values()))))]
        sums = {key: np.array(values) for key, values in images.items()}
        write_image_sums(folder / "per_image.npz", ImageSums(ids, sums, dict.fromkeys(sums, "ratio")))
    if curves:
        (folder / "metrics.csv").write_text(curves)
    return folder


def last_scores(folder: Path, stage: str = "val") -> dict[str, dict[str, float]]:
    """Return task -> metric -> value of a finished run's last weights."""
    return json.loads((folder / "metrics.json").read_text())["last"][stage]


def write_picture(folder: Path, width: int = 600, stage: str = "val") -> None:
    """Put a picture grid into a run folder."""
    (folder / "pictures").mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (width // 3, width, 3), np.uint8)
    cv2.imwrite(str(folder / "pictures" / f"{stage}.png"), noise)


def make_run(folder: Path, *arguments: Any, **changes: Any) -> Run:
    """Write a run folder and read it."""
    return read_run(write_run(folder, *arguments, **changes))
