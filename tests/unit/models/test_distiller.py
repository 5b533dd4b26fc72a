import pytest
import torch
from helpers.modules import randomise, without_gradient
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.distiller import SemanticTokenDistiller, TokenMixer

T, WIDTH, M = 3, 64, 16


def make(size=(12, 14), dtype=torch.float32):
    torch.manual_seed(0)
    return SemanticTokenDistiller(T, WIDTH, 32, tokens=M).to(dtype), torch.randn(2, T, WIDTH, *size, dtype=dtype)


@pytest.mark.parametrize("masked", [False, True])
def test_assignment_is_a_softmax_over_valid_positions(masked):
    distiller, x = make(dtype=torch.float64)
    valid = torch.rand(2, 1, 12, 14) > 0.5 if masked else torch.ones(2, 1, 12, 14, dtype=torch.bool)
    assigned = distiller.assignment(x, valid if masked else None)
    real = valid[0].flatten()
    for t in range(T):
        logits = distiller.scale[t] * (distiller.assign.weight[t] @ x[0, t].flatten(1)[:, real])
        torch.testing.assert_close(assigned[0, t][:, real], logits.softmax(-1))
    assert assigned[0][..., ~real].abs().sum() == 0


def test_tokens_do_not_start_collapsed():
    distiller, x = make((28, 36))
    x = distiller.norm(x + 0.5 * torch.randn(1, 1, WIDTH, 1, 1))  # real features have a common part
    logits = distiller.assign(x) * distiller.scale[..., None]
    assert 2 < logits.flatten(3).std(-1).mean() < 3
    rows = F.normalize(distiller.assign.weight, dim=-1)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(M).expand(T, M, M), atol=1e-5, rtol=0)
    tokens = F.normalize(distiller.assignment(x, None) @ x.flatten(3).mT, dim=-1)
    cosine = (tokens @ tokens.mT).sum((-1, -2)).sub(M).div(M * (M - 1))
    assert cosine.max() < 0.8  # 0.997 where nothing is done about it
    effective = (-torch.special.xlogy(a := distiller.assignment(x, None), a).sum(-1)).exp()
    assert 3 < effective.mean() < 28 * 36 / 2


def test_pooling_before_the_value_layer_equals_pooling_values():
    distiller, x = make(dtype=torch.float64)
    randomise(distiller)
    assigned = distiller.assignment(distiller.norm(x), None)
    values = distiller.value(distiller.norm(x)).flatten(3).mT
    tokens = (assigned @ values + distiller.task_embedding).flatten(1, 2)
    torch.testing.assert_close(distiller(x, None), distiller.token_norm(distiller.mixer(tokens))[:, None])


def test_one_set_of_tokens_for_all_tasks_whatever_the_size():
    distiller, x = make()
    assert distiller(x, None).shape == (2, 1, T * M, WIDTH)
    assert distiller(x[..., :5, :3], None).shape == (2, 1, T * M, WIDTH)


def test_padding_does_not_reach_the_tokens():
    distiller, x = make(dtype=torch.float64)
    valid = torch.zeros(2, 1, 12, 14, dtype=torch.bool)
    valid[..., :7, :9] = True
    torch.testing.assert_close(distiller(x, valid), distiller(x[..., :7, :9], None))
    assert distiller(x, torch.zeros_like(valid)).isfinite().all()


def test_the_mixer_is_a_pre_norm_transformer_layer():
    mixer, x = randomise(TokenMixer(WIDTH, 32).double()), torch.randn(2, 10, WIDTH, dtype=torch.float64)
    reference = torch.nn.TransformerEncoderLayer(
        WIDTH, 2, 2 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    names = {
        "norm1": "norm", "norm2": "mlp_norm", "self_attn.out_proj": "project", "linear1": "mlp.0", "linear2": "mlp.2"
    }  # fmt: skip
    own = mixer.state_dict()
    weights = {f"{a}.{part}": own[f"{b}.{part}"] for a, b in names.items() for part in ("weight", "bias")}
    weights["self_attn.in_proj_weight"] = own["qkv.weight"]
    weights["self_attn.in_proj_bias"] = torch.zeros(3 * WIDTH, dtype=torch.float64)
    reference.load_state_dict(weights)
    torch.testing.assert_close(mixer(x), reference(x))


def test_gradients_reach_every_parameter():
    distiller, x = make()
    (distiller(x, None) * torch.randn(2, 1, T * M, WIDTH)).sum().backward()
    assert without_gradient(distiller) == []


def test_narrow_heads_are_refused():
    with pytest.raises(UserError, match="too small"):
        SemanticTokenDistiller(T, WIDTH, 16)
