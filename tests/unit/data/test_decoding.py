import numpy as np
import pytest
import torch
from helpers.miniature import SIZE, write_miniature
from helpers.samples import SPECS, loaded

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import FeatureSpec, TargetSpec
from mtlsi_net.data.decoding import batch_values, decode, label_values, target_values
from mtlsi_net.data.nyud import NYUDDataModule
from mtlsi_net.models.padding import Canvas

TASKS = {("boundary" if name == "edge" else name): spec for name, spec in SPECS.items()}


def data_module(root, **options):
    module = NYUDDataModule(
        str(root), TASKS, size=(64, 80), batch_size=4, eval_batch_size=2, crop_guide=TASKS["semseg"], **options
    )
    module.setup()
    return module


@pytest.fixture
def root(tmp_path):
    return write_miniature(tmp_path / "data")


@pytest.mark.parametrize(
    ("kind", "value_of"),
    [
        ("classes", lambda byte: byte),
        ("binary", lambda byte: byte / 255),
        ("vector", lambda byte: byte / 127.5 - 1),
        ("scalar", lambda byte: byte),
    ],
)
def test_all_bytes_have_the_values_of_the_format(kind, value_of):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = value_of(stored.astype(np.float64))
    np.testing.assert_allclose(decode(stored, kind), expected, atol=2e-7)
    tensor = label_values(stored, TargetSpec(3, kind))
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), decode(stored, kind))
    assert tensor.dtype == torch.float32
    assert label_values(stored, TargetSpec(3, kind)).max() == (1 if kind in ("binary", "vector") else 255)


def test_loaders_move_bytes_but_for_depth(root):
    for batch in (next(iter(data_module(root).train_dataloader())), next(iter(data_module(root).val_dataloader()))):
        assert batch["image"].dtype == torch.uint8
        stored = {name: target.dtype for name, target in batch["targets"].items()}
        assert stored == {name: torch.float32 if name == "depth" else torch.uint8 for name in TASKS}


def test_padding_has_the_mean_colour_and_no_label(root):
    color = (0.1, 0.25, 0.7)  # none of which is a byte's value
    batch = batch_values(next(iter(data_module(root, pad_color=color).val_dataloader())), TASKS)
    outside = ~batch["valid"][:, 0]
    assert outside.sum() == 2 * (64 * 80 - SIZE[0] * SIZE[1])
    for plane, value in zip(batch["image"].unbind(1), color, strict=True):
        assert (plane[outside] == np.float32(value)).all()
    for name, target in batch["targets"].items():
        assert (target.movedim(1, -1)[outside] == 255).all(), name
    again = batch_values(batch, TASKS)
    assert torch.equal(again["image"], batch["image"])
    assert all(torch.equal(again["targets"][name], target) for name, target in batch["targets"].items())


def test_what_is_stored_is_left_alone():
    for stored in (torch.tensor([0, 3, 255], dtype=torch.uint8), torch.tensor([0.0, 3.0, 255.0])):
        before = stored.clone()
        target_values(stored.view(1, 1, 1, 3), TargetSpec(1, "scalar", fill=0.0, invalid="zero"))
        assert torch.equal(stored, before)


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_may_hold_samples_without_a_label(root, name):
    """Against the same samples loaded one by one."""
    data = data_module(root, label_share={name: 0.5}, augment=False)
    dataset = data.datasets["train"]
    alone = {dataset.ids[index]: loaded(dataset, index) for index in range(len(dataset))}
    (stored,) = data.train_dataloader()
    batch = batch_values(stored, TASKS)
    labelled = 0
    for index, sample_id in enumerate(batch["id"]):
        for task, target in batch["targets"].items():
            assert torch.equal(target[index], alone[sample_id]["targets"][task][0]), task
        labelled += bool((batch["targets"][name][index] != 255).any())
    assert labelled == len(dataset) / 2


def test_a_network_refuses_bytes():
    canvas = Canvas((0.5,) * 3, (0.5,) * 3, [FeatureSpec(8, 4)], 4)
    with pytest.raises(UserError, match=r"image is torch.uint8; .*data.to_device\(batch, device"):
        canvas(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
