import pytest
import torch
from helpers.modules import randomise, without_gradient

from mtlsi_net.models.semantic_decoder import CrossWindowBlock, Gate, SemanticDecoder, TokenAttention

T, WIDTH, HEAD = 2, 64, 32


def test_token_attention_is_softmax_over_the_tokens():
    attention = TokenAttention(T, WIDTH, HEAD).double()
    x, tokens = torch.randn(2, T, 3, 4, WIDTH).double(), torch.randn(2, 1, 10, WIDTH).double()
    y = attention(x, tokens)
    for t in range(T):
        q = (x[:, t].flatten(1, 2) @ attention.query.weight[t].mT).unflatten(-1, (-1, HEAD))
        k, v = (tokens[:, 0] @ attention.key_value.weight[t].mT).unflatten(-1, (2, -1, HEAD)).unbind(2)
        weights = torch.einsum("bnhd,blhd->bnhl", q, k).div(HEAD**0.5).softmax(-1)
        expected = torch.einsum("bnhl,blhd->bnhd", weights, v).reshape(2, 3, 4, WIDTH)
        torch.testing.assert_close(y[:, t], expected)


@pytest.mark.parametrize(("branch", "bias"), [("local", 60.0), ("global", -60.0)])
def test_a_gate_that_takes_one_branch_makes_the_block_of_that_branch_alone(branch, bias):
    block = randomise(CrossWindowBlock(T, WIDTH, HEAD, window=4, shift=0).double())
    block.gate.weigh.weight.data.zero_()
    block.gate.weigh.bias.data.fill_(bias)
    alone = CrossWindowBlock(T, WIDTH, HEAD, window=4, shift=0, branches=branch).double()
    assert not alone.load_state_dict(block.state_dict(), strict=False).missing_keys
    x, tokens = torch.randn(1, T, WIDTH, 8, 8).double(), torch.randn(1, 1, 10, WIDTH).double()
    torch.testing.assert_close(block(x, tokens, None), alone(x, tokens, None))


def test_a_gate_without_preference_takes_the_mean_of_both_branches():
    gate = Gate(T, WIDTH)
    torch.nn.init.zeros_(gate.weigh.weight)
    torch.nn.init.zeros_(gate.weigh.bias)
    local, global_ = torch.randn(2, 1, T, 3, 4, WIDTH).unbind()
    torch.testing.assert_close(gate(local, global_), (local + global_) / 2)


def test_tokens_alone_cross_distant_windows():
    decoder = SemanticDecoder(T, WIDTH, HEAD, window=4)
    x, tokens = torch.randn(1, T, WIDTH, 8, 24, requires_grad=True), torch.randn(1, 1, 10, WIDTH, requires_grad=True)
    decoder(x, tokens, None)[..., 0, 0].square().sum().backward()
    assert x.grad[..., -4:].abs().max() == 0  # local attention and 3x3 convolutions do not get there
    assert x.grad[..., 0, 0].abs().max() > 0
    assert tokens.grad.abs().max() > 0


def test_every_second_block_is_shifted():
    assert [block.local.shift for block in SemanticDecoder(T, WIDTH, HEAD, window=8, depth=3).blocks] == [0, 4, 0]


def test_gradients_reach_every_parameter():
    decoder = SemanticDecoder(T, WIDTH, HEAD)
    decoder(torch.randn(1, T, WIDTH, 9, 10), torch.randn(1, 1, 10, WIDTH), None).square().sum().backward()
    assert without_gradient(decoder) == []
