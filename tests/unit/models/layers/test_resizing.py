import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from mtlsi_net.models.layers import resizing
from mtlsi_net.models.layers.resizing import enlarge, resize_bilinear

SIZES = [
    ((3, 4), (96, 128)),
    ((12, 16), (24, 32)),
    ((7, 5), (10, 17)),
    ((9, 8), (4, 3)),
    ((1, 1), (5, 2)),
    ((6, 6), (6, 6)),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_values_and_gradients_are_those_of_torch(old, new):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *old, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, *new, generator=generator, dtype=torch.float64)
    results = []
    for resize in (resize_bilinear, lambda x, size: F.interpolate(x, size, mode="bilinear", align_corners=False)):
        y = resize(x, new)
        results.append((y, *torch.autograd.grad(y, x, upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_matrices_are_for_gradients_on_a_cpu_only(monkeypatch):
    used = []
    weights = resizing._weights
    monkeypatch.setattr(resizing, "_weights", lambda *key: used.append(key[:2]) or weights(*key))
    x = torch.rand(1, 1, 2, 3)
    resize_bilinear(x, (4, 6))
    with torch.no_grad():
        resize_bilinear(x.requires_grad_(), (4, 6))
    with torch.autocast("cpu", torch.bfloat16):
        resize_bilinear(x, (4, 6))
    resize_bilinear(x.to("meta"), (4, 6))
    assert not used
    resize_bilinear(x, (4, 6))
    assert used == [(2, 4), (3, 6)]


def test_fake_tensors_leave_nothing_behind():
    x = torch.rand(1, 1, 11, 13, requires_grad=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        resize_bilinear(mode.from_tensor(x), (22, 26))
    assert type(resize_bilinear(x, (22, 26))) is torch.Tensor


@pytest.mark.parametrize(("strides", "size"), [([8, 16], (48, 64)), ([5], (48, 64)), ([], (45, 61))])
def test_a_map_without_cells_beyond_the_image_is_only_resized(strides, size):
    x = torch.rand(1, 2, 6, 8, requires_grad=True)
    assert torch.equal(enlarge(x, size, strides), resize_bilinear(x, size))
