import pytest
import torch
from helpers.miniature import compose_config
from helpers.modules import MODELS

from mtlsi_net.engine.build import build_network, build_tasks

OURS = ("model.width=32", "model.head_dim=32")


def build(model, *overrides):
    sizes = OURS if model.startswith("mtlsi") else ("model.width=32",)
    cfg = compose_config("data=nyud", f"model={model}", *sizes, "backbone.name=test_vit", *overrides)
    torch.manual_seed(0)
    return build_network(cfg, build_tasks(cfg)).train()


def train_once(network):
    torch.manual_seed(1)
    valid = torch.ones(2, 1, 64, 96, dtype=torch.bool)
    valid[0, ..., 80:] = False
    prediction = network(torch.rand(2, 3, 64, 96), valid)
    loss = sum(y.square().mean() for y in prediction.final.values())
    loss.backward()
    return loss.detach()


def assert_compiled_is_eager(compiled, eager):
    torch.testing.assert_close(train_once(compiled), train_once(eager))
    gradients = dict(eager.named_parameters())
    for name, parameter in compiled.named_parameters():
        if gradients[name].grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, msg=name, rtol=1e-3, atol=1e-5)


CASES = [
    pytest.param(model, checkpointing, marks=[] if model == "mtlsi" else pytest.mark.slow)
    for model in MODELS
    for checkpointing in (False, True)
]


@pytest.mark.parametrize(("model", "checkpointing"), CASES)
def test_networks_are_traced_in_one_piece(model, checkpointing):
    torch._dynamo.reset()
    eager, traced = build(model), build(model, f"activation_checkpointing={checkpointing}")
    traced.compile(fullgraph=True, backend="eager")  # the code generator takes a minute: below
    assert list(traced.state_dict()) == list(eager.state_dict())
    assert_compiled_is_eager(traced, eager)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_generated_code_computes_the_same(checkpointing):
    torch._dynamo.reset()
    eager, compiled = build("mtlsi"), build("mtlsi", f"activation_checkpointing={checkpointing}")
    compiled.compile(fullgraph=True)
    assert_compiled_is_eager(compiled, eager)
