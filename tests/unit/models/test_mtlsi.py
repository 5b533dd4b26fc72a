"""What every option of MTLSI-Net's stages does, each against its formula."""

import pytest
import torch
from helpers.modules import CHANNELS, PatchEncoder, randomise, without_gradient
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.distiller import SemanticTokenDistiller, TokenPositions
from mtlsi_net.models.fusion import MultiScaleQueryFusion, SharedContextAttention, SoftmaxContextAttention
from mtlsi_net.models.layers.linear_attention import EPS, FEATURE_MAPS, normalised_query
from mtlsi_net.models.layers.task_layers import BatchNorm, TaskConv, TaskLinear
from mtlsi_net.models.mtlsi import MTLSINet
from mtlsi_net.models.preliminary import PreliminaryDecoders
from mtlsi_net.models.semantic_decoder import CrossWindowBlock, LinearTokenAttention, SemanticDecoder

B, T, WIDTH, HEAD = 2, 3, 64, 32
HEADS = WIDTH // HEAD
SCALES = (1, 3)


def features(size=(5, 6), tasks=T, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(B, tasks, WIDTH, *size, dtype=dtype)


def make(part, *args, **options):
    torch.manual_seed(0)
    return randomise(part(*args, **options).double())


def rows(x, heads=HEADS):
    """Map (B, T, C, h, w) to (B, heads, T * N, d)."""
    return x.flatten(3).unflatten(2, (heads, -1)).permute(0, 2, 1, 4, 3).flatten(2, 3)


def take_task(module, task, tasks=T):
    """Return the weights of one task: every parameter whose first axis is the task's, sliced."""
    return {k: v[task : task + 1] if v.shape[:1] == (tasks,) else v for k, v in module.state_dict().items()}


# -- feature maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_feature_maps_are_never_negative_and_finite_in_half_precision(name):
    for size in (0.0, 1e-7, 1.0, 3e3):
        x = (torch.randn(1, 2, WIDTH, 3, 3) * size).half()
        y = FEATURE_MAPS[name](x, HEADS)
        assert y.isfinite().all()
        assert (y >= 0).all()


def test_feature_maps_follow_their_formulas():
    x = features()
    torch.testing.assert_close(FEATURE_MAPS["elu1"](x, HEADS), torch.where(x > 0, x + 1, x.exp()))
    heads = x.clamp(min=0).unflatten(2, (HEADS, HEAD))
    cubed = heads**3
    expected = cubed / cubed.norm(dim=3, keepdim=True) * heads.norm(dim=3, keepdim=True)
    torch.testing.assert_close(FEATURE_MAPS["focused"](x, HEADS), expected.flatten(2, 3))


@pytest.mark.parametrize("name", ["relu", "focused"])
def test_the_length_of_a_query_does_not_matter(name):
    q, total = features(), torch.rand(B, 1, HEADS, HEAD, dtype=torch.float64)
    phi = FEATURE_MAPS[name]
    for factor in (1e-2, 1e3):
        scaled = normalised_query(phi(factor * q, HEADS), total)
        torch.testing.assert_close(scaled, normalised_query(phi(q, HEADS), total), rtol=1e-3, atol=1e-6)


# -- contexts -------------------------------------------------------------------------------------------------------


def attention(**options):
    return make(SharedContextAttention, T, WIDTH, HEAD, SCALES, **options)


@pytest.mark.parametrize("phi", FEATURE_MAPS)
@pytest.mark.parametrize("masked", [False, True])
def test_concatenated_context_is_kernel_attention_over_positions(phi, masked):
    layer, x = attention(context="concat", phi=phi), features()
    valid = torch.rand(B, 1, 5, 6) > 0.3 if masked else torch.ones(B, 1, 5, 6, dtype=torch.bool)
    k, v = (rows(y) for y in layer.keys_values(x))
    k = rows(FEATURE_MAPS[phi](layer.keys_values(x)[0], HEADS))
    real = valid.flatten(1).double()[:, None, None]
    read = []
    for q in layer.queries(x, valid):
        kernel = rows(q) @ k.mT * real / real.sum(-1, keepdim=True)
        y = kernel @ v / (kernel.sum(-1, keepdim=True) + EPS)
        read.append(y.unflatten(2, (T, -1)).permute(0, 2, 1, 4, 3).flatten(2, 3))
    expected = (layer.project.weight @ torch.cat(read, 2)).unflatten(3, (5, 6))
    torch.testing.assert_close(layer(x, valid if masked else None), expected)


def test_own_context_is_each_task_alone():
    layer, x = attention(context="own"), features()
    for task in range(T):
        single = make(SharedContextAttention, 1, WIDTH, HEAD, SCALES)
        single.load_state_dict(take_task(layer, task))
        torch.testing.assert_close(layer(x, None)[:, [task]], single(x[:, [task]], None))


def test_mixed_context_lies_between_shared_and_own():
    shared, own, mixed = attention(), attention(context="own"), attention(context="mixed")
    for other in (own, mixed):
        other.load_state_dict(shared.state_dict(), strict=False)
    x = features()
    mixed.context.logits.data.zero_()
    torch.testing.assert_close(mixed(x, None), shared(x, None))
    mixed.context.logits.data = 100 * torch.eye(T, dtype=torch.float64)
    torch.testing.assert_close(mixed(x, None), own(x, None))
    torch.testing.assert_close(mixed.context.affinity().sum(1), torch.ones(T).double())


@pytest.mark.parametrize("masked", [False, True])
def test_softmax_attention_is_over_all_tasks_and_positions(masked):
    layer, x = make(SoftmaxContextAttention, T, WIDTH, HEAD, SCALES), features()
    valid = torch.rand(B, 1, 5, 6) > 0.3 if masked else torch.ones(B, 1, 5, 6, dtype=torch.bool)
    k, v = (rows(y) for y in layer.keys_values(x))
    hidden = ~valid.flatten(1).repeat(1, T)[:, None, None]
    read = []
    for scale in layer.scales:
        logits = rows(scale(layer.query(x), valid)) @ k.mT / HEAD**0.5
        y = logits.masked_fill(hidden, -torch.inf).softmax(-1) @ v
        read.append(y.unflatten(2, (T, -1)).permute(0, 2, 1, 4, 3).flatten(2, 3))
    expected = (layer.project.weight @ torch.cat(read, 2)).unflatten(3, (5, 6))
    torch.testing.assert_close(layer(x, valid if masked else None), expected)


# -- shared weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", ["kv", "all"])
def test_shared_weights_equal_copies_of_them(share):
    small, large = make(MultiScaleQueryFusion, T, WIDTH, HEAD, share=share), make(MultiScaleQueryFusion, T, WIDTH, HEAD)
    state = {}
    for name, weight in large.state_dict().items():
        own = small.state_dict()[name]
        state[name] = own if own.shape == weight.shape else own.expand_as(weight)
    large.load_state_dict(state)
    x = features()
    torch.testing.assert_close(small(x, None), large(x, None))
    shapes = {name: tuple(p.shape) for name, p in small.named_parameters()}
    per_task = {name for name, shape in shapes.items() if shape[0] == T}
    if share == "all":
        assert {name.split(".")[-2] for name in per_task} == {"norm"}
    else:
        assert {"blocks.0.attention.keys_values.key.weight"}.isdisjoint(per_task)
        assert "blocks.0.attention.query.weight" in per_task


def test_layers_with_shared_weights_treat_tasks_as_images():
    x = features()
    conv, linear = make(TaskConv, 1, WIDTH, 8, 3), make(TaskLinear, 1, WIDTH, 8)
    expected = F.conv2d(x.flatten(0, 1), conv.weight[0], padding=1).unflatten(0, (B, T))
    torch.testing.assert_close(conv(x, None), expected)
    torch.testing.assert_close(
        linear(x), torch.einsum("oc,btchw->btohw", linear.weight[0], x) + linear.bias[0][:, None, None]
    )


# -- additions ------------------------------------------------------------------------------------------------------


def test_local_value_adds_a_depthwise_convolution_of_the_values():
    layer, x = attention(local_value="dw3"), features()
    plain = attention()
    plain.load_state_dict(layer.state_dict(), strict=False)
    values = layer.keys_values.value(x).flatten(1, 2)
    expected = F.conv2d(values, layer.local_value.conv.weight.flatten(0, 1), padding=1, groups=T * WIDTH)
    torch.testing.assert_close(layer(x, None), plain(x, None) + expected.unflatten(1, (T, WIDTH)))


def jacobian(fusion, x, task, other, at):
    """Return (h, w): how task's features at one position depend on another task's features at all positions."""
    x = x.clone().requires_grad_()
    y = fusion(x, None)[0, task, :, at[0], at[1]]
    (gradient,) = torch.autograd.grad((y * torch.linspace(-1, 1, WIDTH)).sum(), x)
    return gradient[0, other].norm(dim=0)


@pytest.mark.parametrize("exchange", [True, False])
def test_exchange_lets_tasks_speak_at_the_same_pixel(exchange):
    torch.manual_seed(0)
    fusion = MultiScaleQueryFusion(T, WIDTH, HEAD, exchange=exchange)
    before = MultiScaleQueryFusion(T, WIDTH, HEAD)
    before.load_state_dict(fusion.state_dict(), strict=False)
    x = torch.randn(1, T, WIDTH, 9, 9)
    torch.testing.assert_close(fusion(x, None), before(x, None))  # it starts at zero
    optimizer = torch.optim.Adam(fusion.parameters(), 3e-3)
    for _ in range(8):
        x = torch.randn(2, T, WIDTH, 9, 9)
        loss = (fusion(x, None)[:, 0] - x[:, 0] - x[:, 1].roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen = jacobian(fusion, torch.randn(1, T, WIDTH, 9, 9), 0, 1, (4, 4))
    elsewhere = torch.cat([seen[:2].flatten(), seen[7:].flatten()]).median()  # out of reach of the convolutions
    assert (seen[4, 4] > 10 * elsewhere) == exchange


def test_exchange_is_the_sum_over_the_other_tasks():
    block = make(MultiScaleQueryFusion, T, WIDTH, HEAD, exchange=True).blocks[0].exchange
    x, y = features(), torch.zeros(B, T, WIDTH, 5, 6, dtype=torch.float64)
    low = [block.down.weight[s] @ x[:, s].flatten(2) for s in range(T)]
    for t in range(T):
        expected = block.up.weight[t] @ sum(low[s] for s in range(T) if s != t)
        torch.testing.assert_close(block(y, x)[:, t].flatten(2), expected)


def test_feedback_adds_activated_predictions():
    activations = {"semseg": lambda y: y.softmax(1), "depth": lambda y: y, "normals": lambda y: F.normalize(y, dim=1)}
    shared = torch.randn(B, WIDTH, 5, 6, dtype=torch.float64)
    plain = make(PreliminaryDecoders, CHANNELS, WIDTH)
    features_, (predictions,) = plain([shared], None)
    values = [activations[name](y) for name, y in predictions.items()]
    for kind, inputs in (("own", values), ("all", [torch.cat(values, 1)] * T)):
        fed = PreliminaryDecoders(CHANNELS, WIDTH, feedback=kind, activations=activations).double()
        fed.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(fed([shared], None)[0], features_)  # it starts at zero
        randomise(fed.feedback)
        added = torch.stack([layer(x) for layer, x in zip(fed.feedback.layers, inputs, strict=True)], 1)
        torch.testing.assert_close(fed([shared], None)[0], features_ + added)


# -- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_slots_compete_for_positions(masked):
    distiller, x = make(SemanticTokenDistiller, T, WIDTH, HEAD, 4, assign="slot"), features()
    valid = torch.rand(B, 1, 5, 6) > 0.3 if masked else torch.ones(B, 1, 5, 6, dtype=torch.bool)
    logits = distiller.assign(x).flatten(3) * distiller.scale
    claims = logits.softmax(2) * valid.flatten(2)[:, None]
    expected = claims / claims.sum(-1, keepdim=True)
    torch.testing.assert_close(distiller.assignment(x, valid if masked else None), expected)


def test_token_moments_are_mean_and_spread_of_where_it_looks():
    weights = torch.rand(B, T, 4, 5, 6, dtype=torch.float64)
    weights /= weights.sum((-1, -2), keepdim=True)
    found = TokenPositions.moments(weights, None)
    y = (torch.arange(5).double()[:, None] + 0.5) / 5
    x = (torch.arange(6).double()[None] + 0.5) / 6
    mean_y, mean_x = (weights * y).sum((-1, -2)), (weights * x).sum((-1, -2))
    spread_y = ((weights * (y - mean_y[..., None, None]) ** 2).sum((-1, -2)) + 1e-6).sqrt()
    spread_x = ((weights * (x - mean_x[..., None, None]) ** 2).sum((-1, -2)) + 1e-6).sqrt()
    torch.testing.assert_close(found, torch.stack([mean_y, mean_x, spread_y, spread_x], -1))
    padded = F.pad(weights, (1, 3, 4, 2))
    valid = F.pad(torch.ones(B, 1, 5, 6, dtype=torch.bool), (1, 3, 4, 2))
    torch.testing.assert_close(TokenPositions.moments(padded, valid), found)


def test_own_tokens_stay_with_their_task():
    distiller, x = make(SemanticTokenDistiller, T, WIDTH, HEAD, 4, mix="own"), features().requires_grad_()
    tokens = distiller(x, None)
    assert tokens.shape == (B, T, 4, WIDTH)
    tokens[:, 0].sum().backward()
    assert x.grad[:, 1:].abs().max() == 0
    decoder = make(SemanticDecoder, T, WIDTH, HEAD, window=4)
    assert decoder(features(), tokens.detach(), None).shape == x.shape


def test_linear_reading_of_tokens_ignores_zero_tokens():
    layer = make(LinearTokenAttention, T, WIDTH, HEAD)
    x, tokens = torch.randn(B, T, 3, 4, WIDTH).double(), torch.randn(B, 1, 10, WIDTH).double()
    for t in range(T):
        q = (x[:, t].flatten(1, 2) @ layer.query.weight[t].mT).relu().unflatten(-1, (-1, HEAD))
        k, v = (tokens[:, 0] @ layer.key_value.weight[t].mT).unflatten(-1, (2, -1, HEAD)).unbind(2)
        kernel = torch.einsum("bnhd,blhd->bhnl", q, k.relu())
        y = torch.einsum("bhnl,blhd->bnhd", kernel / (kernel.sum(-1, keepdim=True) + 1e-5), v)
        torch.testing.assert_close(layer(x, tokens)[:, t].flatten(1, 2).double(), y.flatten(2), rtol=1e-4, atol=1e-4)
    longer = torch.cat([tokens, torch.zeros(B, 1, 30, WIDTH)], 2)
    torch.testing.assert_close(layer(x, longer), layer(x, tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linear_reading_is_finite_in_half_precision(dtype):
    layer = LinearTokenAttention(T, WIDTH, HEAD).to(dtype)
    tokens = torch.randn(B, 1, 50, WIDTH).to(dtype)
    for factor in (0.0, 1e-6, 1.0, 100.0):
        assert layer((factor * torch.randn(B, T, 3, 4, WIDTH)).to(dtype), tokens).isfinite().all()
        assert layer(torch.randn(B, T, 3, 4, WIDTH).to(dtype), factor * tokens).isfinite().all()


def test_mixed_totals_stay_in_float32_under_autocast():
    layer = SharedContextAttention(T, WIDTH, HEAD, SCALES, context="mixed")
    seen = []
    layer.context.register_forward_hook(lambda _m, _a, out: seen.append(out[1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        layer(features(dtype=torch.float32), None)
    assert seen == [torch.float32]


# -- branches and norms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["local", "global"])
def test_a_branch_alone_has_no_other_and_no_gate(branch):
    block = make(CrossWindowBlock, T, WIDTH, HEAD, 4, 0, branches=branch)
    x, tokens = features((8, 8)).requires_grad_(), torch.randn(B, 1, 10, WIDTH).double().requires_grad_()
    block(x, tokens, None)[..., 0, 0].square().sum().backward()
    in_the_window = x.grad[..., 3, 3]  # beyond the 3x3 convolution of the feed-forward network
    assert (in_the_window.abs().max() > 0) == (branch == "local")
    assert (tokens.grad is not None) == (branch == "global")
    assert not list(block.gate.parameters())


def test_batch_norm_is_torchs_over_tasks_and_channels():
    norm, x = BatchNorm(WIDTH, T).double(), features()
    expected = F.batch_norm(x.flatten(1, 2), None, None, training=True).unflatten(1, (T, WIDTH))
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.tokens(x), expected.movedim(2, -1))


# -- what does not mix tasks ----------------------------------------------------------------------------------------


def test_parts_that_do_not_mix_tasks_can_be_sliced():
    x, tokens = features((8, 8)), torch.randn(B, 1, 10, WIDTH).double()
    decoder = make(SemanticDecoder, T, WIDTH, HEAD, window=4)
    for task in range(T):
        single = make(SemanticDecoder, 1, WIDTH, HEAD, window=4)
        state = take_task(decoder, task)
        for name in state:
            if name.endswith("position_bias"):
                state[name] = decoder.state_dict()[name].unflatten(0, (T, HEADS))[task]
        single.load_state_dict(state)
        torch.testing.assert_close(decoder(x, tokens, None)[:, [task]], single(x[:, [task]], tokens, None))


# -- impossible options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (MultiScaleQueryFusion, {"phi": "rellu"}, "phi=rellu is not known; did you mean 'relu'"),
        (MultiScaleQueryFusion, {"context": "all"}, "context=all"),
        (MultiScaleQueryFusion, {"share": "some"}, "share=some"),
        (MultiScaleQueryFusion, {"local_value": "dw5"}, "did you mean 'dw3'"),
        (MultiScaleQueryFusion, {"attention": "cosine"}, "attention=cosine"),
        (MultiScaleQueryFusion, {"attention": "softmax", "context": "own"}, "set context=sum"),
        (MultiScaleQueryFusion, {"scales": ()}, "at least one scale"),
        (MultiScaleQueryFusion, {"scales": (2,)}, "even"),
        (MultiScaleQueryFusion, {"depth": 0}, "one block"),
        (SemanticTokenDistiller, {"assign": "slots"}, "did you mean 'slot'"),
        (SemanticTokenDistiller, {"mix": "none"}, "mix=none"),
        (SemanticTokenDistiller, {"tokens": 0}, "at least 1"),
        (SemanticDecoder, {"branches": "locale"}, "did you mean 'local'"),
        (SemanticDecoder, {"read_tokens": "dot"}, "read_tokens=dot"),
        (SemanticDecoder, {"depth": 0}, "depth=0; give at least one block"),
        (SemanticDecoder, {"window": 1}, "window of at least 2"),
    ],
)
def test_impossible_options_are_refused(part, options, message):
    with pytest.raises(UserError, match=message):
        part(T, WIDTH, HEAD, **options)


@pytest.mark.parametrize("options", [{"exchange": True}, {"context": "mixed"}])
def test_one_task_has_nobody_to_exchange_with(options):
    with pytest.raises(UserError, match="one task has no other"):
        MultiScaleQueryFusion(1, WIDTH, HEAD, **options)


def test_an_unknown_norm_is_refused():
    with pytest.raises(UserError, match=r"norm=bach is not known; did you mean 'batch'"):
        MTLSINet(PatchEncoder(), CHANNELS, width=64, norm="bach")


def test_predictions_of_more_levels_than_there_are_do_not_get_lost(monkeypatch):
    net = MTLSINet(PatchEncoder(), CHANNELS, width=64)
    honest = net.preliminary.forward
    monkeypatch.setattr(net.preliminary, "forward", lambda *x: (honest(*x)[0], honest(*x)[1] * 4))
    with pytest.raises(ValueError, match="shorter than"):
        net(torch.rand(1, 3, 64, 96))


def test_a_window_larger_than_the_map_is_refused():
    net = MTLSINet(PatchEncoder(), CHANNELS, width=64)
    net.check_size((32, 20))
    with pytest.raises(UserError, match="window=8 is larger than the decoder's grid, 7x5"):
        net.check_size((28, 20))


def test_batch_norm_everywhere_trains():
    net = MTLSINet(PatchEncoder(), CHANNELS, width=64, norm="batch")
    prediction = net(torch.rand(2, 3, 64, 96))
    sum(y.square().mean() for outputs in (prediction.final, *prediction.aux) for y in outputs.values()).backward()
    assert without_gradient(net) == []
