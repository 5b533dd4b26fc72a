"""Semantic segmentation scored in other classes than the network was trained on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError, nearest_names
from mtlsi_net.core.types import Batch
from mtlsi_net.tasks.semseg import SemsegTask


class MappedSemsegTask(SemsegTask):
    """The task ``scored`` for a network with the classes of ``trained``; it scores and draws, and is not trained.

    The probability of a class is the sum of those of the network's classes that stand for it; network classes that stand for
    none are left out. Labels of classes that none stands for are unlabelled, and mIoU leaves these classes out (our choice).

    Args:
        trained: whose raw outputs the network has.
        scored: whose labels, metric and colours count.
        mapping: class of ``trained`` -> class of ``scored``, or None for none. A class that is not named stands for the one
            of the same name, if there is one.

    Raises:
        InputError: a class that is not known, or no class that stands for another.
    """

    def __init__(
        self, trained: SemsegTask, scored: SemsegTask, mapping: Mapping[str, str | None] | None = None
    ) -> None:
        ignored = [scored.class_names[index] for index in scored.ignored]
        super().__init__(scored.class_names, ignore_classes=ignored, mtan_batch=scored.mtan_batch)
        self.target = scored.target
        mapping = dict(mapping or {})
        for name, other in mapping.items():
            _check(name, trained.class_names, "the network was trained on")
            if other is not None:
                _check(other, scored.class_names, "the data has")
        own = {name: mapping.get(name, name if name in scored.class_names else None) for name in trained.class_names}
        self.mapping = own
        self.channels = trained.channels
        self.members = [[k for k, name in enumerate(own) if own[name] == target] for target in scored.class_names]
        averaged = range(len(scored.class_names)) if scored.scored is None else scored.scored
        self.scored = [index for index in averaged if self.members[index]]
        if not self.scored:
            raise InputError("no class of the network stands for a class of the data that is scored; map at least one")

    @property
    def lost(self) -> list[str]:
        """Classes of the data that no class of the network stands for."""
        return [name for name, members in zip(self.class_names, self.members, strict=True) if not members]

    def logits(self, output: Tensor) -> Tensor:
        """Return raw outputs (B, channels, H, W) in the scored classes, (B, K, H, W), minus infinity without members."""
        none = torch.full_like(output[:, 0], float("-inf"))
        planes = [output[:, members].logsumexp(dim=1) if members else none for members in self.members]
        return torch.stack(planes, dim=1)

    def known(self, target: Tensor) -> Tensor:
        """Return a target (B, 1, H, W) with labels of lost classes as 255."""
        lost = torch.tensor([index for index, members in enumerate(self.members) if not members], device=target.device)
        return torch.where(torch.isin(target, lost.to(target.dtype)), float(self.target.ignore), target)

    def update(self, metric: Metric, value: Tensor, batch: Batch, name: str) -> None:
        """Add post-processed predictions against the labels of classes that the network has."""
        targets = batch["targets"] | {name: self.known(batch["targets"][name])}
        super().update(metric, value, {**batch, "targets": targets}, name)

    def variant(self) -> dict[str, Any]:
        """Return the rules of the scored task, and how classes are mapped."""
        return super().variant() | {"class_map": self.mapping}

    def postprocess(self, output: Tensor) -> Tensor:
        """Return the most probable scored class, (B, 1, H, W) int64."""
        return super().postprocess(self.logits(output))


def _check(name: str, known: tuple[str, ...], whose: str) -> None:
    if name not in known:
        raise InputError(f"class {name!r} is none that {whose}; {nearest_names(str(name), known)}")
