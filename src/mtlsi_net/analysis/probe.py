"""Probe of a trained network: measures, of our choice, of whether its blocks have an effect and which."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.analysis.interventions import (
    context_of_another_image,
    contexts_of,
    drop_from_context,
    drop_from_tokens,
    shares_context,
    tokens_of_another_image,
)
from mtlsi_net.analysis.plots import draw_gate, draw_matrices, draw_tokens
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import write_csv, write_json
from mtlsi_net.core.types import Batch, Prediction
from mtlsi_net.engine.evaluate import Restored, restore
from mtlsi_net.engine.record import describe_scores
from mtlsi_net.engine.trainer import build_trainer
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.base import DenseNetwork
from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.recorder import Intervention, hooked, record_activations
from mtlsi_net.models.semantic_decoder import Gate
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.metrics import Scores, TaskMetrics, postprocess

log = logging.getLogger(__name__)

DISTANCES = (2, 4, 8, 16, 32)
"""Upper limits of the distance classes, in pixels of the network's input; the last class has none."""


def _forward(module: MultiTaskModule, batch: Batch) -> Prediction:
    prediction: Prediction = module(batch["image"].to(module.device), batch["valid"].to(module.device))
    return prediction


@torch.no_grad()
def score(module: MultiTaskModule, batches: Sequence[Batch], *interventions: Intervention) -> Scores:
    """Return task -> metric -> value under the interventions."""
    metrics = TaskMetrics(module.tasks)
    with hooked(module.network, *interventions):
        for batch in batches:
            values = postprocess(module.tasks, _forward(module, batch).final)
            metrics.update({name: value.cpu() for name, value in values.items()}, batch)
    return metrics.compute()


def harm(module: MultiTaskModule, before: Scores, after: Scores) -> dict[str, float]:
    """Return task -> relative loss of its main metric, positive where an intervention made it worse; NaN from 0."""
    losses = {}
    for name, task in module.tasks.items():
        a, b = (scores[name][task.main_key(scores[name])] for scores in (before, after))
        sign = -1 if task.higher_is_better else 1
        losses[name] = sign * (b - a) / a if a != 0 else float("nan")
    return losses


@torch.no_grad()
def token_statistics(module: MultiTaskModule, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return statistics of the tokens of a network with a ``SemanticTokenDistiller``.

    ``cosine``: task -> mean cosine between two of its tokens as read by the decoder; 1 is collapsed. ``positions``: task ->
    exp(entropy) of a token's assignment: the effective number of its positions, mean. ``positions_of_image``: valid
    positions of an image, mean.
    """
    names, cosines, effective, sizes = list(module.tasks), [], [], []

    def record(stage: nn.Module, args: tuple[Tensor, Tensor | None], tokens: Tensor) -> None:
        assert isinstance(stage, SemanticTokenDistiller)
        x, valid = args
        assignment = stage.assignment(stage.norm(x), valid)
        effective.append((-torch.special.xlogy(assignment, assignment).sum(-1)).exp().mean(-1))
        unit = F.normalize(torch.unflatten(tokens.flatten(1, 2), 1, (len(names), -1)).float(), dim=-1)
        count = unit.shape[2]
        cosines.append(((unit @ unit.mT).sum((-1, -2)) - count) / max(1, count * (count - 1)))
        real = x.shape[-1] * x.shape[-2] if valid is None else valid.flatten(1).sum(1).float().mean().item()
        sizes.append(real)

    with module.network.get_submodule("distiller").register_forward_hook(record):
        for batch in batches:
            _forward(module, batch)
    cosine, positions = (
        dict(zip(names, torch.cat(values).mean(0).tolist(), strict=True)) for values in (cosines, effective)
    )
    return {"cosine": cosine, "positions": positions, "positions_of_image": float(np.mean(sizes))}


@torch.no_grad()
def gate_by_distance(module: MultiTaskModule, batches: Sequence[Batch], boundary: str) -> dict[str, list[float]]:
    """Return task -> mean share of the local branch in each distance class from the nearest labelled boundary.

    Classes end at ``DISTANCES``; NaN where a class holds no position. ``boundary`` is the task whose labels are taken.
    """
    assert isinstance(module.network, DenseNetwork)
    total = np.zeros((len(module.tasks), len(DISTANCES) + 1))
    count = np.zeros(len(DISTANCES) + 1)
    for batch in batches:
        with record_activations(module.network) as recorded:
            _forward(module, batch)
        weights = torch.stack(recorded.gates).mean(0).numpy()  # (B, T, h, w)
        distance, real = distance_to_boundary(batch, boundary, weights.shape[-2:], module.network.decoder_stride)
        kind = np.digitize(distance, DISTANCES)
        for k in range(len(count)):
            inside = (kind == k) & real
            count[k] += inside.sum()
            total[:, k] += weights.transpose(1, 0, 2, 3)[:, inside].sum(1)
    with np.errstate(invalid="ignore"):
        means = total / count
    return dict(zip(module.tasks, means.tolist(), strict=True))


def distance_to_boundary(
    batch: Batch, boundary: str, grid: tuple[int, int], stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean distance (B, h, w) of each cell to the nearest labelled boundary, in pixels, and which are real.

    ``boundary`` is the task whose labels are taken. The ``grid`` (h, w) of cells, ``stride`` pixels wide, may reach beyond
    the image at the bottom and right: padding.
    """
    label = batch["targets"][boundary][:, 0]
    distances = []
    for edge in (label == 1).numpy():
        far = np.full(edge.shape, np.float32(sum(edge.shape)))
        distances.append(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) if edge.any() else far)
    margin = (0, grid[1] * stride - label.shape[-1], 0, grid[0] * stride - label.shape[-2])
    size = (len(label), grid[0], stride, grid[1], stride)
    distance = F.pad(torch.from_numpy(np.stack(distances)), margin).view(size).mean((2, 4))
    real = F.pad(batch["valid"][:, 0], margin).view(size).float().mean((2, 4)) == 1
    return distance.numpy(), real.numpy()


def gradient_cosines(module: MultiTaskModule, batches: Sequence[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean cosines (T, T) between tasks' gradients at the encoder's parameters, and the mean norms (T,).

    Losses carry the constant factors of ``task_weights.weights``, preliminary predictions included, and no further
    balancing, on which cosines do not depend. NaN where the encoder is frozen.
    """
    parameters = [p for p in module.network.get_submodule("encoder").parameters() if p.requires_grad]
    cosines, norms = [], []
    for batch in batches:
        on_device = {name: target.to(module.device) for name, target in batch["targets"].items()}
        final, aux = module.losses(_forward(module, batch), on_device)
        rows = []
        losses = module.weighting.join(final, aux).values()
        for factor, loss in zip(module.weighting.factors, losses, strict=True):
            gradients: Sequence[Tensor] = ()
            if parameters:  # those of another task's own encoder have gradients of 0
                gradients = torch.autograd.grad(
                    factor * loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            rows.append(torch.cat([torch.zeros(1), *(g.flatten().float().cpu() for g in gradients)]))
        matrix = torch.stack(rows)
        norms.append(matrix.norm(dim=1))
        unit = matrix / matrix.norm(dim=1, keepdim=True)
        cosines.append(unit @ unit.mT)
    # A task without labels in a batch has no gradient there and is left out of its means.
    all_norms = torch.stack(norms)
    return torch.stack(cosines).nanmean(0).numpy(), all_norms.where(all_norms > 0, torch.nan).nanmean(0).numpy()


def probe(cfg: DictConfig) -> dict[str, Any]:
    """Measure ``cfg.ckpt``; write ``probe.json``, a CSV for each measure and pictures into ``cfg.paths.run_dir``."""
    restored = restore(cfg)
    folder = restored.folder
    folder.create(folder.pictures)
    if not isinstance(restored.module.network, DenseNetwork):
        raise UserError(f"ckpt={cfg.ckpt} holds an external network; the probe supports only networks of this suite")
    module = restored.module.eval().to(build_trainer(restored.run, folder).strategy.root_device)
    if restored.data.eval_batch_size < 2:
        raise UserError(
            "data.eval_batch_size=1, but a transplant needs another image in the batch; set it to 2 or more"
        )
    batches = _batches(restored, "val", cfg.images)
    results: dict[str, Any] = {"images": sum(len(b["id"]) for b in batches), "skipped": {}}
    results["baseline"] = score(module, batches)
    _measure_interventions(module, batches, results)
    _measure_blocks(restored, batches, results)
    cosines, norms = gradient_cosines(module, _batches(restored, "train_scored", cfg.gradient_images))
    rows = (dict(zip(module.tasks, row, strict=True)) for row in cosines.tolist())
    results["gradient_cosines"] = dict(zip(module.tasks, rows, strict=True))
    results["gradient_norms"] = dict(zip(module.tasks, norms.tolist(), strict=True))

    _write(results, folder.root)
    write_json(folder.record, describe_scores(restored.run, restored.data, restored.tasks, {}))
    picture = folder.pictures / "tasks.png"
    draw_matrices(results, picture)
    for label, reason in results["skipped"].items():
        log.info("%s not measured: %s", label, reason)
    log.info("probed %s on %d images; results are in %s: open %s", cfg.ckpt, results["images"], folder.root, picture)
    return results


def _batches(restored: Restored, split: str, count: int) -> list[Batch]:
    """Return equally large batches of evenly spaced images."""
    loader = restored.data.eval_dataloader(split)
    dataset, size = restored.data.datasets[split], restored.data.eval_batch_size
    count = min(count, len(dataset)) // size * size
    if count == 0:
        raise UserError(f"{split} has {len(dataset)} images for batches of {size}; request at least one full batch")
    draws = list(loader.sampler)
    samples = [dataset[draws[index * len(dataset) // count]] for index in range(count)]
    cpu = torch.device("cpu")  # only the network's inputs leave it
    return [restored.data.to_device(loader.collate_fn(samples[i : i + size]), cpu) for i in range(0, count, size)]


def _measure_interventions(module: MultiTaskModule, batches: Sequence[Batch], results: dict[str, Any]) -> None:
    names = list(module.tasks)
    plan = _plan(module.network, names, results["skipped"])
    effects = {
        label: harm(module, results["baseline"], score(module, batches, intervene))
        for label, intervene in track(plan.items(), "interventions", transient=True)
    }
    for part in ("context", "tokens"):
        rows = {name: effects[f"{part} without {name}"] for name in names if f"{part} without {name}" in effects}
        if rows:
            results[f"{part}_influence"] = rows
    results["transplants"] = {k: v for k, v in effects.items() if k.endswith("another image")}


def _plan(network: nn.Module, names: Sequence[str], skipped: dict[str, str]) -> dict[str, Intervention]:
    plan: dict[str, Intervention] = {}
    if contexts_of(network):
        plan["context of another image"] = context_of_another_image
    else:
        skipped["context transplant"] = "this network has no context matrix"
    if len(names) > 1 and shares_context(network):
        plan |= {f"context without {name}": drop_from_context(k) for k, name in enumerate(names)}
    else:
        skipped["context influence"] = "this network has no context shared by tasks, with one source per task"
    distiller = getattr(network, "distiller", None)
    if isinstance(distiller, SemanticTokenDistiller):
        plan["tokens of another image"] = tokens_of_another_image
    else:
        skipped["token transplant"] = "this network has no semantic token distiller"
    if len(names) > 1 and isinstance(distiller, SemanticTokenDistiller) and distiller.sets == 1:
        plan |= {f"tokens without {name}": drop_from_tokens(k, len(names)) for k, name in enumerate(names)}
    else:
        skipped["token influence"] = "this network has no tokens shared by tasks"
    return plan


def _measure_blocks(restored: Restored, batches: Sequence[Batch], results: dict[str, Any]) -> None:
    module, network = restored.module, restored.module.network
    if isinstance(getattr(network, "distiller", None), SemanticTokenDistiller):
        results["tokens"] = token_statistics(module, batches)
        draw_tokens(module, batches[0], restored.folder.pictures / "tokens.png")
    else:
        results["skipped"]["tokens"] = "this network has no semantic token distiller"
    if not any(isinstance(m, Gate) for m in network.modules()):
        results["skipped"]["gate"] = "this network has no gate"
    elif not (boundaries := [name for name, task in module.tasks.items() if isinstance(task, BoundaryTask)]):
        results["skipped"]["gate"] = "the distance to boundaries needs labels of a boundary task"
    else:
        results["gate_by_distance"] = gate_by_distance(module, batches, boundaries[0])
        draw_gate(results["gate_by_distance"], DISTANCES, restored.folder.pictures / "gate.png")


def _write(results: Mapping[str, Any], root: Path) -> None:
    write_json(root / "probe.json", results)
    for key in ("context_influence", "tokens_influence", "transplants", "gradient_cosines"):
        if results.get(key):
            columns = list(next(iter(results[key].values())))
            write_csv(root / f"{key}.csv", ["", *columns], [[k, *row.values()] for k, row in results[key].items()])
    if "gate_by_distance" in results:
        ends = [f"below {d} px" for d in DISTANCES] + [f"{DISTANCES[-1]} px and more"]
        write_csv(root / "gate_by_distance.csv", ["", *ends], [[k, *v] for k, v in results["gate_by_distance"].items()])
