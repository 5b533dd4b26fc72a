"""Lengths and unit vectors over channels, against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.metrics.normals import lengths, unit_vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_vectors_and_gradients_are_torchs(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7, dtype=dtype)
    x[0, :, 0, 0], x[0, :, 0, 1], x[0, :, 0, 2] = 0, 1e-13, 1e-9  # none, shorter than eps, short
    direction = torch.randn_like(x)
    found = []
    for function in (unit_vectors, lambda v: F.normalize(v, dim=1)):
        own = x.clone().requires_grad_()
        unit = function(own)
        (unit * direction).sum().backward()
        found.append((unit.detach(), own.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(lengths(x), x.norm(dim=1, keepdim=True))


def test_half_precision_does_not_overflow():
    x = torch.tensor([300.0, 0.0, 400.0], dtype=torch.float16).view(1, 3, 1, 1)
    unit = unit_vectors(x)
    assert unit.dtype == torch.float16
    torch.testing.assert_close(unit.flatten(), torch.tensor([0.6, 0.0, 0.8], dtype=torch.float16))
