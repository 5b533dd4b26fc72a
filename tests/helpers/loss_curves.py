"""Losses of the first steps of every network on one small batch; kept, so that a change to any of them is seen.

``PYTHONPATH=tests python -m helpers.loss_curves`` writes the kept ones anew, where a change is meant.
"""

import json
from pathlib import Path

import torch
from helpers.miniature import compose_config
from helpers.modules import MODELS

from mtlsi_net.benchmarks.runner import random_batch
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.trainer import build_module

KEPT = Path(__file__).parents[1] / "regression" / "loss_curves.json"
STEPS = 20
"""Of the kept curves."""
SIZE = (64, 96)
PADDING = 16
"""Columns on the right of the second image that are no image."""
TRAINING = ("optim.optimizer._target_=torch.optim.SGD", "optim.lr=0.01", "optim.weight_decay=0.0")
"""Adam would make a whole step of a gradient that is nothing but rounding."""
WIDTHS = {"mlore": ["model.width=32", "model.experts=3", "model.top_k=2"]}
OURS = ["model.width=32", "model.head_dim=32"]


def loss_curve(model: str, steps: int = STEPS, seed: int = 0) -> list[float]:
    """Return the total loss before each of the first ``steps`` of ``STEPS`` on one batch of two images, one of them padded."""
    sizes = OURS if model.startswith("mtlsi") else WIDTHS.get(model, ["model.width=32"])
    cfg = compose_config("data=nyud", "backbone.name=test_vit", f"model={model}", *sizes, *TRAINING)
    torch.manual_seed(seed)
    tasks = build_tasks(cfg)
    network = build_network(cfg, tasks)
    network.set_priors({name: torch.ones(task.channels) for name, task in tasks.items()})
    module = build_module(cfg, network, tasks, priors={}, config={}).train()
    batch = random_batch(tasks, SIZE, 2, seed, torch.device("cpu"))
    batch["valid"][1, ..., -PADDING:] = False
    for target in batch["targets"].values():
        target[1, ..., -PADDING:] = 255
    optimizer, _ = module.recipe.build(network, STEPS)
    losses = []
    for _ in range(steps):
        prediction = module(batch["image"], batch["valid"])
        total = module.weighting(*module.losses(prediction, batch["targets"])) + sum(prediction.regularisers.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        losses.append(total.item())
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    KEPT.write_text(json.dumps({name: [round(x, 6) for x in loss_curve(name)] for name in MODELS}, indent=1) + "\n")
