import torch
from helpers.modules import randomise, without_gradient

from mtlsi_net.models.semantic_decoder import CrossWindowBlock, SemanticDecoder, TokenAttention

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


def test_a_block_mixes_its_branches_by_the_gate():
    block = randomise(CrossWindowBlock(T, WIDTH, HEAD, window=4, shift=0).double())
    x, tokens = torch.randn(1, T, WIDTH, 8, 8).double(), torch.randn(1, 1, 10, WIDTH).double()
    y = block.norm.tokens(x)
    local, wide = block.local(y, None), block.wide(y, tokens)
    gate = block.gate.weigh.tokens(torch.cat([local, wide], -1)).sigmoid()
    mixed = block.project.tokens(gate * local + (1 - gate) * wide).movedim(-1, 2)
    torch.testing.assert_close(block(x, tokens, None), block.feed_forward(x + mixed, None))


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
