"""Losses of all tasks: unweighted scalars, as in the ATRC/InvPT lineage (docs/protocol/index.md).

All take raw outputs (B, K, H, W) of any floating type and targets (B, C, H, W) float with 255 where invalid (65535 in
maps of more than 255 classes), compute in
float32, and divide by |V|, the number of valid pixels of the whole batch (at least 1), or by that of ``labelled``
if set: the mean ``core.types.count_labels`` of batches whose losses are averaged. A batch without any valid pixel gives 0
with zero gradients. No loss synchronises with the device: no boolean indexing, no ``.item()``.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.types import IGNORE, count_labels, ignore_of
from mtlsi_net.metrics.normals import unit_vectors


def _pixels(valid: Tensor, labelled: Tensor | None) -> Tensor:
    if labelled is None:
        return valid.sum().clamp(min=1)
    return torch.where(labelled[0] > 0, labelled[0], 1)  # a mean may lie below 1


def cross_entropy_loss(
    logits: Tensor, target: Tensor, labelled: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of (B, K, H, W) logits against (B, 1, H, W) classes 0..K-1 as floats.

    With ``weight`` (K,), each pixel counts as much as its class; the sum is divided by |V| still, not by the sum of the
    weights (as ``torch`` would).

    Example:
        >>> logits, target = torch.zeros(1, 4, 1, 2), torch.tensor([[[[3.0, 255.0]]]])  # the second pixel has no label
        >>> round(cross_entropy_loss(logits, target).item(), 4)  # log 4
        1.3863
    """
    classes, ignore = target[:, 0].long(), ignore_of(logits.shape[1])
    total = F.cross_entropy(logits.float(), classes, weight, ignore_index=ignore, reduction="sum")
    return total / _pixels(classes != ignore, labelled)


def balanced_cross_entropy_loss(logits: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Return the two-class cross-entropy weighted by the class balance of the batch.

    Positives weigh the share of negatives in V and the other way round; the sum is divided by |V|, not by the sum of
    the weights (as ``torch`` would).

    Args:
        logits: (B, 2, H, W), negative and positive.
        target: (B, 1, H, W) in [0, 1], positive above 0.5.
        labelled: see above.

    Example:
        >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> round(balanced_cross_entropy_loss(logits, target).item(), 4)  # (0.75 + 3 * 0.25) * log 2 / 4
        0.2599
    """
    valid = target[:, 0] != IGNORE
    positive = (target[:, 0] > 0.5) & valid
    count = _pixels(valid, labelled)
    all_labelled = count_labels(target) if labelled is None else labelled
    positives = all_labelled[1] / count
    negatives = (all_labelled[0] - all_labelled[1]) / count
    classes = torch.where(valid, positive.long(), IGNORE)
    weight = torch.stack([positives, negatives]).float()
    return F.cross_entropy(logits.float(), classes, weight, ignore_index=IGNORE, reduction="sum") / count


def boundary_loss(logits: Tensor, target: Tensor, positive_weight: float, labelled: Tensor | None = None) -> Tensor:
    """Return the mean over valid pixels of w*y*softplus(-x) + (1-w)*(1-y)*softplus(x).

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W) in [0, 1] (values between are soft labels).
        positive_weight: w in (0, 1).
        labelled: see above.

    Example:
        >>> logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> round(boundary_loss(logits, target, positive_weight=0.95).item(), 4)  # (0.95 + 0.05) * log 2 / 2
        0.3466
    """
    logits = logits.float()
    valid = target != IGNORE
    label = torch.where(valid, target, 0.0)
    present = positive_weight * label * F.softplus(-logits)
    absent = (1 - positive_weight) * (1 - label) * F.softplus(logits)
    return torch.where(valid, present + absent, 0.0).sum() / _pixels(valid, labelled)


def l1_loss(output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Return the mean absolute error of (B, 1, H, W) in the target's unit (depth: metres).

    Example:
        >>> l1_loss(torch.tensor([[[[1.0, 7.0]]]]), torch.tensor([[[[3.0, 255.0]]]])).item()
        2.0
    """
    valid = target != IGNORE
    error = (output.float() - torch.where(valid, target, 0.0)).abs()
    return torch.where(valid, error, 0.0).sum() / _pixels(valid, labelled)


def normals_loss(output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Return the absolute error of the normalised output, summed over 3 channels, averaged over valid pixels.

    Args:
        output: (B, 3, H, W), of any length (normalised here, lengths below 1e-12 stay short).
        target: (B, 3, H, W) unit vectors, used as they are; a pixel with 255 in any channel is invalid.
        labelled: see above.

    Example:
        >>> output, target = torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0.0, 1.0, 0.0])
        >>> normals_loss(output.view(1, 3, 1, 1), target.view(1, 3, 1, 1)).item()  # 0 + 1 + 1
        2.0
    """
    valid = (target != IGNORE).all(dim=1, keepdim=True)
    unit = unit_vectors(output.float())
    error = (unit - torch.where(valid, target, 0.0)).abs()
    return torch.where(valid, error, 0.0).sum() / _pixels(valid, labelled)


def cosine_loss(output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Return one minus the cosine between output and target, averaged over valid pixels.

    Args:
        output: (B, 3, H, W), of any length.
        target: (B, 3, H, W) unit vectors; a pixel with 255 in any channel is invalid.
        labelled: see above.

    Example:
        >>> output, target = torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0.0, 1.0, 0.0])
        >>> cosine_loss(output.view(1, 3, 1, 1), target.view(1, 3, 1, 1)).item()  # at right angles
        1.0
    """
    valid = (target != IGNORE).all(dim=1, keepdim=True)
    cosine = (unit_vectors(output.float()) * torch.where(valid, target, 0.0)).sum(dim=1, keepdim=True)
    return torch.where(valid, 1 - cosine, 0.0).sum() / _pixels(valid, labelled)
