import pickle

import pytest
import torch
from helpers.modules import without_gradient

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.fusion import MultiScaleQueryFusion, SharedContextAttention
from mtlsi_net.models.layers.linear_attention import (
    EPS,
    SharedContext,
    contexts_of_sources,
    normalised_query,
    position_weights,
)
from mtlsi_net.models.layers.task_layers import ChannelNorm

B, T, WIDTH, HEAD = 2, 3, 64, 32
HEADS = WIDTH // HEAD
SCALES = (1, 3, 5)


def make_attention(dtype=torch.float64, tasks=T):
    torch.manual_seed(0)
    attention = SharedContextAttention(tasks, WIDTH, HEAD, SCALES).to(dtype)
    torch.nn.init.normal_(attention.keys_values.key.bias)
    return attention, torch.randn(B, tasks, WIDTH, 5, 6, dtype=dtype)


def quadratic(attention, x, valid):
    """Kernel attention with the (T*N) x (T*N) matrix, written out."""

    def rows(features):  # (B, T, C, h, w) -> (B, heads, T*N, d)
        return features.flatten(3).unflatten(2, (HEADS, HEAD)).permute(0, 2, 1, 4, 3).flatten(2, 3)

    k, v = (rows(y) for y in (attention.keys_values.key(x).relu(), attention.keys_values.value(x)))
    valid = torch.ones(B, 1, *x.shape[-2:], dtype=torch.bool) if valid is None else valid
    real = valid.flatten(1).repeat(1, x.shape[1]).double()[:, None, None]
    outputs = []
    for query in attention.queries(x, valid):
        kernel = rows(query) @ k.mT * real / real.sum(-1, keepdim=True)
        read = kernel @ v / (kernel.sum(-1, keepdim=True) + EPS)
        outputs.append(read.unflatten(2, (x.shape[1], -1)).permute(0, 2, 1, 4, 3).flatten(2, 3))
    y = attention.project.weight @ torch.cat(outputs, 2)
    return y.unflatten(3, x.shape[-2:])


@pytest.mark.parametrize("masked", [False, True])
def test_equals_kernel_attention_over_all_tasks_and_positions(masked):
    attention, x = make_attention()
    valid = torch.rand(B, 1, 5, 6) > 0.3 if masked else None
    torch.testing.assert_close(attention(x, valid), quadratic(attention, x, valid))


def test_removing_a_task_takes_exactly_its_sum_out_of_the_context():
    k, v = torch.rand(B, T, WIDTH, 5, 6, dtype=torch.float64), torch.randn(B, T, WIDTH, 5, 6, dtype=torch.float64)

    def sums(tasks):
        each = contexts_of_sources(k[:, tasks], v[:, tasks], position_weights(k[:, tasks], None), HEADS)
        context, total = (y[:, 0] for y in SharedContext()(*each))
        return context * len(tasks) * 30, total * len(tasks) * 30

    every, fewer = sums([0, 1, 2]), sums([0, 2])
    k1, v1 = (x[:, 1].flatten(2).unflatten(1, (HEADS, HEAD)) for x in (k, v))
    torch.testing.assert_close(every[0] - fewer[0], torch.einsum("bhdn,bhen->bhde", k1, v1))
    torch.testing.assert_close(every[1] - fewer[1], k1.sum(-1))


def test_order_of_key_positions_does_not_matter():
    attention, x = make_attention()
    queries, k, v = attention.queries(x, None), attention.keys_values.key(x).relu(), attention.keys_values.value(x)
    order = torch.randperm(30)
    mixed_k, mixed_v = (y.flatten(3)[..., order].unflatten(3, (5, 6)) for y in (k, v))
    torch.testing.assert_close(attention.read(queries, mixed_k, mixed_v, None), attention.read(queries, k, v, None))


def test_an_image_of_padding_alone_stays_finite():
    attention, x = make_attention()
    valid = torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 5, 6)
    y = attention(x, valid)
    assert y.isfinite().all()
    torch.testing.assert_close(y[:1], attention(x[:1], None))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-6])
def test_near_dead_queries_are_finite_forward_and_backward(size):
    q = torch.full((1, 1, WIDTH, 2, 2), size, requires_grad=True)
    total = torch.full((1, 1, HEADS, HEAD), 0.5)
    y = normalised_query(q, total)
    y.sum().backward()
    assert y.isfinite().all()
    assert q.grad.isfinite().all()
    torch.testing.assert_close(y.detach(), torch.full_like(y, size / (size * HEAD * 0.5 + EPS)))


@pytest.mark.parametrize("autocast", [False, True])
def test_float16_does_not_overflow(autocast):
    exact, x = make_attention()
    for layer in (exact.keys_values.key, exact.keys_values.value):
        layer.weight.data *= 1000
    half = SharedContextAttention(T, WIDTH, HEAD, SCALES).to(torch.float32 if autocast else torch.float16)
    half.load_state_dict(exact.state_dict())
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        same = x.to(half.query.weight.dtype)
        k, v = (y.half() for y in half.keys_values(same))
        y = half(same, None)
    assert (k.relu().double()[..., None] * v.double()[..., None]).abs().max() > torch.finfo(torch.float16).max
    torch.testing.assert_close(y.double(), exact(x, None), rtol=0.02, atol=0.02 * y.abs().max().item())


def test_bfloat16_autocast_is_close_to_float32():
    attention, x = make_attention(torch.float32)
    expected = attention(x, None)
    with torch.autocast("cpu", torch.bfloat16):
        y = attention(x, None)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.02 * expected.norm()


def saved_for_backward(height, width):
    """Return the tensors that one fusion block saves, without its parameters and without counting a storage twice."""
    block = MultiScaleQueryFusion(T, WIDTH, HEAD, SCALES)
    own = {p.untyped_storage().data_ptr() for p in block.parameters()}
    saved = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = block(torch.randn(1, T, WIDTH, height, width, requires_grad=True), None)
    return list(saved.values()), y


def test_saved_activations_are_linear_in_positions():
    (small, _), (large, _keep) = saved_for_backward(12, 13), saved_for_backward(24, 26)
    count = [sum(tensor.untyped_storage().nbytes() // 4 for tensor in tensors) for tensors in (small, large)]
    assert count[1] < 4.1 * count[0]
    assert count[1] < (2 * len(SCALES) + 18) * T * 24 * 26 * WIDTH  # docstring's bound
    for tensors, positions in ((small, 12 * 13), (large, 24 * 26)):
        assert not [t.shape for t in tensors if sum(side == positions for side in t.shape) > 1]


def test_gradients_reach_every_parameter():
    block = MultiScaleQueryFusion(T, WIDTH, HEAD, depth=2)
    block(torch.randn(B, T, WIDTH, 5, 6), None).square().sum().backward()
    assert without_gradient(block) == []


def test_softmax_attention_has_no_feature_map_and_can_be_pickled():
    fusion = pickle.loads(pickle.dumps(MultiScaleQueryFusion(T, WIDTH, HEAD, attention="softmax")))
    x = torch.randn(1, T, WIDTH, 2, 3)
    assert torch.equal(fusion.blocks[0].attention.phi(x, HEADS), x)
    with pytest.raises(UserError, match="phi=elu1 has no effect on softmax attention"):
        MultiScaleQueryFusion(T, WIDTH, HEAD, attention="softmax", phi="elu1")


def test_every_task_hears_of_every_other():
    block = MultiScaleQueryFusion(T, WIDTH, HEAD).double()
    x = torch.randn(1, T, WIDTH, 5, 6, dtype=torch.float64, requires_grad=True)
    block(x, None)[:, 0].square().sum().backward()
    assert all(x.grad[:, t].abs().max() > 0 for t in range(T))


def test_a_single_task_is_plain_linear_self_attention():
    attention, x = make_attention(tasks=1)
    torch.testing.assert_close(attention(x, None), quadratic(attention, x, None))


def test_values_of_keys_are_scaled_before_the_product():
    k = torch.full((1, 1, HEAD, 64, 64), 200.0, dtype=torch.float16)
    context, total = contexts_of_sources(k, k, position_weights(k, None), 1)
    assert context.isfinite().all()  # 200 * 200 * 4096 would not be
    torch.testing.assert_close(total, torch.full_like(total, 200.0), rtol=1e-2, atol=0)


def test_norm_before_attention_is_per_position():
    norm = ChannelNorm(WIDTH, T)
    x = torch.randn(1, T, WIDTH, 4, 4)
    changed = x.clone()
    changed[..., 0, 0] = 9
    assert torch.equal(norm(x)[..., 1:, 1:], norm(changed)[..., 1:, 1:])
