import math

import pytest
import torch
from helpers.modules import without_gradient

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.layers.windows import WindowAttention, relative_offsets

T, WIDTH, HEAD = 2, 64, 32


def explicit(layer, x, valid):
    """Position by position: softmax over the valid positions of its window, with a bias by displacement."""
    batch, tasks, height, width, _ = x.shape
    q, k, v = layer.qkv.tokens(x).unflatten(-1, (3, layer.heads, HEAD)).unbind(-3)
    bias = layer.position_bias.view(tasks, layer.heads, 2 * layer.window - 1, 2 * layer.window - 1)
    out = torch.zeros_like(q)

    def window_of(i, j):
        return (i + layer.shift) // layer.window, (j + layer.shift) // layer.window

    cells = [(i, j) for i in range(height) for j in range(width)]
    for b in range(batch):
        for i, j in cells:
            near = [(m, n) for m, n in cells if window_of(m, n) == window_of(i, j) and valid[b, 0, m, n]]
            if not near:
                continue
            rows, columns = (torch.tensor(axis) for axis in zip(*near, strict=True))
            logits = torch.einsum("thd,tnhd->thn", q[b, :, i, j], k[b, :, rows, columns]) / math.sqrt(HEAD)
            logits = logits + bias[:, :, i - rows + layer.window - 1, j - columns + layer.window - 1]
            out[b, :, i, j] = torch.einsum("thn,tnhd->thd", logits.softmax(-1), v[b, :, rows, columns])
    return out.flatten(-2)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 11), (3, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_softmax_over_the_valid_positions_of_each_window(shift, size, masked):
    torch.manual_seed(0)
    layer = WindowAttention(T, WIDTH, HEAD, window=4, shift=shift).double()
    x = torch.randn(2, T, *size, WIDTH, dtype=torch.float64)
    valid = torch.rand(2, 1, *size) > 0.5 if masked else torch.ones(2, 1, *size, dtype=torch.bool)
    y = layer(x, valid if masked else None)
    kept = valid[:, 0, None, :, :, None].expand_as(y)
    torch.testing.assert_close(y[kept], explicit(layer, x, valid)[kept])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_windows_of_padding_alone_stay_finite(dtype):
    layer = WindowAttention(T, WIDTH, HEAD, window=4, shift=2).to(dtype)
    x = torch.randn(1, T, 8, 8, WIDTH, dtype=dtype)
    y = layer(x, torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    y.float().square().sum().backward()
    assert y.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_every_parameter_learns():
    layer = WindowAttention(T, WIDTH, HEAD, window=4, shift=0)
    layer(torch.randn(1, T, 8, 8, WIDTH), None).square().sum().backward()
    assert without_gradient(layer) == []


def test_offsets_are_those_of_displacements():
    offsets = relative_offsets(3)
    assert len(offsets.unique()) == 25
    assert (offsets.diagonal() == 12).all()  # the middle of 5 x 5: no displacement
    assert offsets[0, 8] == 0
    assert offsets[8, 0] == 24


@pytest.mark.parametrize(("window", "shift"), [(1, 0), (8, 8), (8, -1)])
def test_impossible_windows_are_refused(window, shift):
    with pytest.raises(UserError, match="gives no windows"):
        WindowAttention(T, WIDTH, HEAD, window, shift)
