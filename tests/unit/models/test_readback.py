"""Readback of tokens: attention by its formula, and predictions from the tokens alone."""

import torch
from helpers.modules import CHANNELS, randomise
from torch.nn import functional as F

from mtlsi_net.models.readback import NoReadback, TokenReadback

B, T, WIDTH, HEAD, TOKENS = 2, len(CHANNELS), 64, 32, 7


def make(channels=CHANNELS):
    torch.manual_seed(0)
    readback = randomise(TokenReadback(T, WIDTH, HEAD, task_channels=channels).double())
    return readback, torch.randn(B, T, WIDTH, 5, 6).double(), torch.randn(B, 1, TOKENS, WIDTH).double()


def attended(readback, x, tokens, task):
    """Return what a task's positions read, (B, N, C), head by head."""
    q = F.layer_norm(x[:, task].movedim(1, -1), (WIDTH,), eps=1e-6).flatten(1, 2)
    q = (q * readback.norm.weight[task].flatten() + readback.norm.bias[task].flatten()) @ readback.read.query.weight[
        task
    ].mT
    k, v = (tokens[:, 0] @ readback.read.key_value.weight[task].mT).unflatten(-1, (2, -1)).unbind(2)
    heads = []
    for head in range(WIDTH // HEAD):
        own = slice(head * HEAD, (head + 1) * HEAD)
        weights = (q[..., own] @ k[..., own].mT / HEAD**0.5).softmax(-1)
        heads.append(weights @ v[..., own])
    return torch.cat(heads, -1)


def test_features_gain_what_attention_reads_and_it_predicts_alone():
    readback, x, tokens = make()
    features, (predictions,) = readback(x, tokens)
    for task, name in enumerate(CHANNELS):
        read = attended(readback, x, tokens, task)
        added = read @ readback.project.weight[task].mT + readback.project.bias[task]
        torch.testing.assert_close(features[:, task], x[:, task] + added.mT.unflatten(-1, (5, 6)))
        layer = readback.outputs[0].layers[name]
        expected = read @ layer.weight.flatten(1).mT + layer.bias
        torch.testing.assert_close(predictions[name], expected.mT.unflatten(-1, (5, 6)))


def test_without_task_channels_nothing_is_predicted():
    readback, x, tokens = make(None)
    assert readback(x, tokens)[1] == []
    features, predictions = NoReadback(T, WIDTH, HEAD, task_channels=CHANNELS)(x, tokens)
    assert features is x
    assert predictions == []
