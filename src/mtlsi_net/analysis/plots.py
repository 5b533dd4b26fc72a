"""Plots of the probe's results."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from mtlsi_net.core.types import Batch
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.base import DenseNetwork
from mtlsi_net.models.recorder import most_focused, record_activations

TOKENS_SHOWN = 4


def draw_matrices(results: Mapping[str, Any], path: Path) -> None:
    """Draw matrices between tasks: harm by dropping one from context and tokens, transplants, and gradient cosines."""
    titles = {
        "context_influence": "loss of score, %, when the context\nexcludes a task (row)",
        "tokens_influence": "loss of score, %, when the mixed\ntokens exclude a task (row)",
        "transplants": "loss of score, %, with\nanother image's",
        "gradient_cosines": "cosine of gradients\nat the encoder",
    }
    shown = [key for key in titles if results.get(key)]
    figure = Figure(figsize=(3.9 * len(shown), 3.4), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        rows = results[key]
        values = np.array([list(row.values()) for row in rows.values()], float)
        percent = key != "gradient_cosines"
        values = 100 * values if percent else values
        limit = max(1.0, float(np.nanmax(np.abs(values)))) if percent else 1.0  # below 1 % is pale: noise
        axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        for (i, j), value in np.ndenumerate(values):
            color, digits = "white" if abs(value) > 0.6 * limit else "black", 1 if percent else 2
            axis.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color=color)
        axis.set_xticks(range(values.shape[1]), next(iter(rows.values())), rotation=30, fontsize=8)
        axis.set_yticks(range(len(rows)), [label.removesuffix(" of another image") for label in rows], fontsize=8)
        axis.set_title(titles[key], fontsize=9)
    figure.savefig(path, dpi=120)


def draw_gate(by_task: Mapping[str, Sequence[float]], distances: Sequence[int], path: Path) -> None:
    """Draw the share of CWIB's local branch against the distance to a labelled boundary."""
    labels = [f"<{distances[0]}", *(f"{a}-{b}" for a, b in pairwise(distances)), f"≥{distances[-1]}"]
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, values in by_task.items():
        axis.plot(range(len(labels)), values, marker="o", label=name)
    axis.set_xticks(range(len(labels)), labels)
    axis.set(xlabel="distance to the nearest labelled boundary, pixels", ylabel="share of the local branch")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


@torch.no_grad()
def draw_tokens(module: MultiTaskModule, batch: Batch, path: Path) -> None:
    """Draw, for the first image, the assignments of every task's most focused tokens."""
    network = module.network
    assert isinstance(network, DenseNetwork)
    with record_activations(network) as recorded:
        module(batch["image"][:1].to(module.device), batch["valid"][:1].to(module.device))
    assignment, stride = recorded.assignments[0][0], network.stride  # (T, M, h, w)
    image = batch["image"][0].permute(1, 2, 0).numpy()
    names = list(module.tasks)
    shown = min(TOKENS_SHOWN, assignment.shape[1])
    figure = Figure(figsize=(2.1 * (shown + 1), 1.9 * len(names)), layout="constrained")
    cells = figure.subplots(len(names), shown + 1, squeeze=False)
    for row, name, tokens in zip(cells, names, assignment, strict=True):
        row[0].imshow(image)
        row[0].set_title(name, fontsize=8)
        for axis, (k, positions) in zip(row[1:], most_focused(tokens, shown), strict=True):
            axis.imshow(image.mean(2), cmap="gray", alpha=0.6)
            right, bottom = (side * stride for side in (tokens.shape[-1], tokens.shape[-2]))
            axis.imshow(
                tokens[k].numpy(), cmap="magma", alpha=0.65, extent=(0, right, bottom, 0), interpolation="bilinear"
            )
            axis.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))  # the grid may reach beyond the image
            axis.set_title(f"token {k}, positions: {positions:.0f}", fontsize=7)
        for axis in row:
            axis.set_axis_off()
    figure.savefig(path, dpi=120)
