"""Where the networks are right: depth by distance to a thing of known size, classes by the size of their segment.

``python experiments/rooms_decoders/breakdown.py RUNS OUT``: RUNS is a sweep of run folders with checkpoints; OUT gets
``breakdown.csv`` (one line a run and bin) and ``breakdown.png``. In rooms only doors, beds, chairs and sofas have known
sizes, so that metric depth far from them in the image takes long-range cues.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_module
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from mtlsi_net.comparison.identity import Group, group_seeds
from mtlsi_net.comparison.page import row_labels
from mtlsi_net.comparison.read import find_folders, read_runs
from mtlsi_net.core.types import IGNORE
from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.engine.evaluate import restore
from mtlsi_net.tasks.metrics import postprocess

KNOWN_SIZE = ("bed", "chair", "sofa", "door")
DISTANCES = (0.0, 0.03, 0.1, 0.2, 0.4)
"""Of a pixel to the nearest thing of known size, in image widths; below the first is on it."""
SIZES = (0.0, 0.003, 0.01, 0.03, 0.1)
"""Of a connected segment of one class, in shares of the image."""
DEPTH, SEMSEG = "depth rmse, m", "semseg mIoU of classes present"


def distance_bins(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each pixel's bin of (H, W) classes: 0 on a thing of known size, 1, 2, ... by distance, the last: none in view."""
    known = np.isin(classes, [CLASS_SETS["nyud40"].index(name) for name in KNOWN_SIZE])
    if not known.any():
        return np.full(classes.shape, len(DISTANCES) + 1)
    away = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.digitize(away.astype(float) / classes.shape[1], DISTANCES, right=True)


def size_bins(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each pixel's bin by the size of the 4-connected segment it lies in; -1 where unlabelled."""
    bins = np.full(classes.shape, -1)
    for value in np.unique(classes[classes != IGNORE]):
        count, parts = cv2.connectedComponents((classes == value).astype(np.uint8), connectivity=4)
        shares = np.bincount(parts.ravel(), minlength=count) / classes.size
        inside = parts > 0
        bins[inside] = np.digitize(shares[parts[inside]], SIZES) - 1
    return bins


def names(edges: Sequence[float], scale: float, unit: str) -> list[str]:
    """Return the names of the bins between edges."""
    inner = [f"{scale * a:g}-{scale * b:g}{unit}" for a, b in pairwise(edges)]
    return [*inner, f"over {scale * edges[-1]:g}{unit}"]


DISTANCE_NAMES = ["on it", *names(DISTANCES, 100, " %"), "none in view"]
SIZE_NAMES = names(SIZES, 100, " %")


@torch.no_grad()
def measure(checkpoint: Path) -> dict[str, list[float]]:
    """Return the score of a checkpoint in every bin, NaN where no pixel fell."""
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        out = checkpoint.parents[1] / "breakdown"
        cfg = compose("evaluate", [f"ckpt='{checkpoint}'", f"paths.run_dir='{out}'"])
    restored = restore(cfg)
    module, tasks = restored.module.eval(), restored.tasks
    depth = [tasks["depth"].new_metric() for _ in DISTANCE_NAMES]
    semseg = [tasks["semseg"].new_metric() for _ in SIZE_NAMES]
    for stored in restored.data.val_dataloader():
        batch = restored.data.to_device(stored, module.device)
        shown = postprocess(tasks, module(batch["image"], batch["valid"]).final)
        targets = batch["targets"]
        classes = targets["semseg"][:, 0].long().numpy()
        for name, metrics, bins in (("depth", depth, distance_bins), ("semseg", semseg, size_bins)):
            where = torch.from_numpy(np.stack([bins(own) for own in classes]))[:, None]
            for index, metric in enumerate(metrics):
                own: Any = {**batch, "targets": {name: _masked(targets[name], where == index)}}
                tasks[name].update(metric, shown[name], own, name)
    return {
        DEPTH: [float(metric.compute()["rmse"]) for metric in depth],
        SEMSEG: [float(metric.compute()["mIoU_present"]) for metric in semseg],
    }


def _masked(target: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep, target, torch.full_like(target, IGNORE))


def lines(groups: Sequence[Group]) -> Iterator[dict[str, object]]:
    """Yield one line a run and bin."""
    labels = row_labels([group.label for group in groups])
    runs = [(label, run) for label, group in zip(labels, groups, strict=True) for run in group.runs]
    for label, run in track(runs, "scoring"):
        found = measure(run.folder.checkpoints / "last.ckpt")
        for score, bins in ((DEPTH, DISTANCE_NAMES), (SEMSEG, SIZE_NAMES)):
            for name, value in zip(bins, found[score], strict=True):
                yield {"network": label, "seed": run.config["seed"], "score": score, "bin": name, "value": value}


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw each network's mean over seeds in every bin."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curves(left, rows, DEPTH, DISTANCE_NAMES, "distance to the nearest bed, chair, sofa or door, of the image's width")
    _curves(right, rows, SEMSEG, SIZE_NAMES, "size of the segment, of the image")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _curves(axis: Axes, rows: Sequence[Mapping[str, Any]], score: str, bins: Sequence[str], label: str) -> None:
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network and row["score"] == score]
        means = [np.mean([row["value"] for row in own if row["bin"] == name]) for name in bins]
        axis.plot(bins, means, marker="o", markersize=3, label=network)
    axis.set_ylabel(score)
    axis.set_xlabel(label, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def main(runs: str, out: Path) -> None:
    """Write table and picture."""
    found, skipped = read_runs(find_folders(runs)[0], "last")
    groups, _ = group_seeds(found)
    for item in skipped:
        print(f"skipped: {item.name}: {item.reason}")
    rows = list(lines(groups))
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(out / "breakdown.csv", index=False)
    draw(out / "breakdown.png", rows)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
