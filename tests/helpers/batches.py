"""Random outputs and labels of every task of a data set."""

from functools import cache

import numpy as np
import torch
from helpers.miniature import compose_config

from mtlsi_net.core.types import Reference
from mtlsi_net.engine.build import build_tasks

DATA = ("nyud", "pascal")


@cache
def tasks_of(data):
    """Return the tasks of a data set, name -> task, which tests must not change."""
    return build_tasks(compose_config(f"data={data}"))


def example(tasks, seed, size=(24, 32)):
    """Return random raw outputs of two images, and a batch of labels with padding on the right."""
    generator = torch.Generator().manual_seed(seed)
    outputs = {name: torch.randn(2, task.channels, *size, generator=generator) for name, task in tasks.items()}
    kinds = {
        "classes": lambda spec: torch.randint(0, spec.num_classes or 1, (2, 1, *size), generator=generator).float(),
        "binary": lambda _: (torch.rand(2, 1, *size, generator=generator) < 0.1).float(),
        "scalar": lambda _: torch.rand(2, 1, *size, generator=generator) * 5 + 0.5,
        "vector": lambda _: torch.nn.functional.normalize(torch.randn(2, 3, *size, generator=generator), dim=1),
    }
    targets = {name: kinds[task.target.kind](task.target) for name, task in tasks.items()}
    valid = torch.ones(2, 1, *size, dtype=torch.bool)
    valid[..., -3:] = False
    for target in targets.values():
        target[..., -3:] = 255
    edges = (targets["boundary"][..., :-3] * 255).numpy().astype(np.uint8)
    references = {"boundary": [Reference(edge, "boundaries") for edge in edges]}
    rest = {"image": torch.zeros(2, 3, *size), "id": [f"{seed}a", f"{seed}b"]}
    return outputs, {"targets": targets, "valid": valid, "references": references, **rest}
