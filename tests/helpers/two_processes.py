"""Work shared by processes that know of each other (gloo), for tests of what they agree on."""

from pathlib import Path
from typing import Any

import torch
from helpers.commands import context
from torch import distributed, multiprocessing


def boundary_scores(shares: list[Any], folder: Path) -> list[dict[str, float]]:
    """Return what the boundary metric computes in each process, fed with its share of (predictions, references)."""
    context()
    multiprocessing.start_processes(_score, (shares, folder), nprocs=len(shares), start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(shares))]


def _score(rank: int, shares: list[Any], folder: Path) -> None:
    from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure

    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=len(shares))
    metric = BoundaryFMeasure("plain")
    metric.update(*shares[rank])
    torch.save({key: float(value) for key, value in metric.compute().items()}, folder / f"{rank}.pt")
    distributed.destroy_process_group()
