import pytest
import torch
from helpers.modules import randomise, without_gradient
from torch import nn
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.layers.task_layers import (
    ChannelNorm,
    ConvFeedForward,
    ConvNormAct,
    TaskConv,
    TaskLinear,
    count_heads,
)

T, C = 3, 8


@pytest.fixture
def features():
    return torch.randn(2, T, C, 5, 7, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_one_1x1_convolution_per_task(features, bias):
    layer = randomise(TaskLinear(T, C, 6, bias=bias).double())
    for t, y in enumerate(layer(features).unbind(1)):
        expected = F.conv2d(features[:, t], layer.weight[t, :, :, None, None], layer.bias[t] if bias else None)
        torch.testing.assert_close(y, expected)
    as_tokens = layer.tokens(features.movedim(2, -1))
    torch.testing.assert_close(as_tokens.movedim(-1, 2), layer(features))


@pytest.mark.parametrize(("depthwise", "kernel"), [(True, 1), (True, 5), (False, 3)])
def test_convolution_is_one_per_task_and_sees_zeros_on_padding(features, depthwise, kernel):
    layer = TaskConv(T, C, C, kernel, depthwise=depthwise).double()
    valid = torch.rand(2, 1, 5, 7) > 0.4
    for mask in (None, valid):
        for t, y in enumerate(layer(features, mask).unbind(1)):
            x = features[:, t] if mask is None else features[:, t] * mask
            expected = F.conv2d(x, layer.weight[t], padding=kernel // 2, groups=C if depthwise else 1)
            torch.testing.assert_close(y, expected)


def test_strided_convolution_keeps_every_second_position(features):
    dense, strided = (TaskConv(1, C, C, 3, stride=stride, depthwise=True).double() for stride in (1, 2))
    strided.load_state_dict(dense.state_dict())
    torch.testing.assert_close(strided(features, None), dense(features, None)[..., ::2, ::2])


def test_the_plain_unit_is_its_formula_per_task(features):
    unit = randomise(ConvNormAct(T, C, 4).double())
    y = unit(features, None)
    for t in range(T):
        expected = F.layer_norm(F.conv2d(features[:, t], unit.conv.weight[t], padding=1).movedim(1, -1), (4,), eps=1e-6)
        expected = expected * unit.norm.weight[t, 0, 0] + unit.norm.bias[t, 0, 0]
        torch.testing.assert_close(y[:, t].movedim(1, -1), F.gelu(expected))


def test_even_kernels_are_refused():
    with pytest.raises(UserError, match=r"4 .*is even"):
        TaskConv(T, C, C, 4)


def test_norm_is_layer_norm_of_each_position_with_weights_per_task(features):
    norm = randomise(ChannelNorm(C, T).double())
    for t, y in enumerate(norm(features).unbind(1)):
        reference = nn.LayerNorm(C, eps=1e-6, dtype=torch.float64)
        reference.weight.data, reference.bias.data = norm.weight[t].flatten(), norm.bias[t].flatten()
        torch.testing.assert_close(y, reference(features[:, t].movedim(1, -1)).movedim(-1, 1))
    single = ChannelNorm(C).double()
    x = features[:, 0]
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(single(x), expected)


def test_feed_forward_keeps_tasks_apart_and_uses_all_its_parameters(features):
    block = randomise(ConvFeedForward(T, C).double())
    changed = features.clone()
    changed[:, 1] += 1
    same = [
        torch.equal(a, b) for a, b in zip(block(features, None).unbind(1), block(changed, None).unbind(1), strict=True)
    ]
    assert same == [True, False, True]
    block(features, None).square().sum().backward()
    assert without_gradient(block) == []


def test_heads_are_counted_and_too_narrow_ones_refused():
    assert count_heads(320, 64) == 5
    assert count_heads(96, 32) == 3
    with pytest.raises(UserError, match="too small"):
        count_heads(64, 8)
    with pytest.raises(UserError, match="not a multiple"):
        count_heads(96, 64)
