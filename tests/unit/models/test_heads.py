import pytest
import torch
from helpers.modules import CHANNELS, randomise
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.heads import OutputLayers, PlainHead, UpsampleHead

WIDTH = 32
PRIORS = {"semseg": torch.arange(5.0), "depth": torch.tensor([2.7]), "normals": torch.tensor([0.1, -0.2, 0.9])}


@pytest.fixture
def outputs():
    return OutputLayers(CHANNELS, WIDTH)


def test_features_of_zero_predict_the_priors(outputs):
    outputs.set_priors(PRIORS)
    predicted = outputs(torch.zeros(2, 3, WIDTH, 4, 5))
    assert list(predicted) == list(CHANNELS)
    for name, prior in PRIORS.items():
        torch.testing.assert_close(predicted[name], prior[:, None, None].expand(2, -1, 4, 5))


def test_a_new_head_predicts_nearly_its_priors():
    head = UpsampleHead(CHANNELS, WIDTH)
    head.output.set_priors(PRIORS)
    with torch.no_grad():
        predicted = head(torch.randn(1, 3, WIDTH, 4, 5), None, (32, 40))
    for name, prior in PRIORS.items():
        assert (predicted[name] - prior[:, None, None]).abs().max() < 0.3


def test_each_task_reads_its_own_features(outputs):
    x = torch.randn(1, 3, WIDTH, 4, 5)
    changed = x.clone()
    changed[:, 1] += 1
    before, after = outputs(x), outputs(changed)
    assert [torch.equal(before[name], after[name]) for name in CHANNELS] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"semsg": torch.zeros(5)}, "semsg"),
        ({"depth": torch.zeros(2)}, "'depth' must be 1 finite"),
        ({"depth": torch.tensor(1.0)}, "'depth' must be 1 finite"),
        ({"normals": torch.tensor([0.0, float("inf"), 0.0])}, "'normals' must be 3 finite"),
    ],
)
def test_unfit_priors_are_refused(outputs, change, message):
    with pytest.raises(UserError, match=message):
        outputs.set_priors({**PRIORS, **change})


def test_missing_priors_are_refused(outputs):
    with pytest.raises(UserError, match="priors are for"):
        outputs.set_priors({"depth": torch.zeros(1)})


@pytest.mark.parametrize("size", [(32, 40), (33, 47)])
def test_upsampling_head_reaches_any_size(size):
    predicted = UpsampleHead(CHANNELS, WIDTH)(torch.randn(2, 3, WIDTH, 4, 5), None, size)
    assert {name: tuple(y.shape) for name, y in predicted.items()} == {
        name: (2, channels, *size) for name, channels in CHANNELS.items()
    }


def test_a_shortcut_adds_a_prediction_from_the_features_and_no_prior():
    torch.manual_seed(0)
    head = randomise(PlainHead(CHANNELS, WIDTH, shortcut=True))
    plain = PlainHead(CHANNELS, WIDTH)
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("shortcut")})
    x = torch.randn(2, len(CHANNELS), WIDTH, 4, 5)
    found, without = head(x, None, (4, 5)), plain(x, None, (4, 5))
    for task, name in enumerate(CHANNELS):
        norm = head.shortcut.norm
        normed = F.layer_norm(x[:, task].movedim(1, -1), (WIDTH,), eps=1e-6) * norm.weight[task] + norm.bias[task]
        added = normed @ head.shortcut.output.layers[name].weight.flatten(1).mT
        torch.testing.assert_close(found[name], without[name] + added.movedim(-1, 1))
    head.shortcut.output.set_priors(PRIORS)  # the other layer predicts them
    torch.testing.assert_close(head(x, None, (4, 5)), found)
