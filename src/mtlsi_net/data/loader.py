"""Loading one process's share of every step or split."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Sampler

from mtlsi_net.losses import count_labels
from mtlsi_net.specs import Batch, cut_batch


class ShareLoader(DataLoader[Batch]):
    """Loads a process's whole share of a step as one batch and hands it out in parts of equal size.

    Every one of several parts knows the labels of the whole share (``Batch.labelled``). A process without any sample
    still hands out one empty batch: it has to take part in what all processes do together.

    Args:
        parts: of each batch; its size is a multiple.
        options: of ``DataLoader``.
    """

    def __init__(self, parts: int = 1, **options: Any) -> None:  # noqa: ANN401 - DataLoader's own
        super().__init__(**options)
        self.parts = parts

    def __len__(self) -> int:
        return max(1, super().__len__()) * self.parts

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override] # DataLoader's own iterator promises no more
        if len(cast(Sampler[Any], self.sampler)) == 0:  # type: ignore[arg-type] # ours has a length
            yield empty_batch()
            return
        for batch in super().__iter__():
            if self.parts == 1:
                yield batch
                continue
            size = len(batch["id"]) // self.parts
            labelled = {name: count_labels(target) for name, target in batch["targets"].items()}
            for first in range(0, size * self.parts, size):
                part = cut_batch(batch, slice(first, first + size))
                part["labelled"] = labelled
                yield part


def empty_batch() -> Batch:
    """Return a batch of no images."""
    return {
        "image": torch.empty(0, 3, 1, 1),
        "valid": torch.empty(0, 1, 1, 1),
        "id": [],
        "targets": {},
        "references": {},
    }
