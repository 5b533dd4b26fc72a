"""Copies without some labels, and images without some task's label."""

import shutil

import numpy as np
import pytest
import torch
from helpers.miniature import SIZE, compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature
from helpers.samples import loaded
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.dataset import MultiTaskDataset
from mtlsi_net.data.sampling import Draw
from mtlsi_net.engine.build import build_data, build_tasks

SETS = {"nyud": write_miniature, "pascal": write_pascal_miniature}


def build(name, root, *overrides):
    cfg = compose_config(f"data={name}", f"data.root={root}", "data.size=[64,64]", "data.num_workers=0", *overrides)
    return build_data(cfg, build_tasks(cfg))


@pytest.fixture(params=SETS)
def partial(request, tmp_path):
    """Return the name and root of a data set without any normals."""
    root = SETS[request.param](tmp_path / "data")
    shutil.rmtree(root / {"nyud": "normals", "pascal": "normals_distill"}[request.param])
    return request.param, root


def test_a_copy_without_normals_serves_the_other_tasks(partial, tmp_path):
    data = build(*partial, "~tasks.normals", f"paths.output_dir={tmp_path}")
    batch = next(iter(data.train_dataloader()))
    assert "normals" not in batch["targets"]
    assert len(batch["targets"]) == {"nyud": 3, "pascal": 4}[partial[0]]


def test_otherwise_the_error_says_what_is_missing_and_how_to_go_on(partial):
    with pytest.raises(
        UserError, match=r"normals: [68], normals.*more.*\(~tasks.normals; with a checkpoint: without=\[normals\]\)"
    ) as error:
        build(*partial)
    assert "semseg" not in str(error.value)


def test_all_tasks_that_lack_labels_are_named(partial):
    name, root = partial
    shutil.rmtree(root / {"nyud": "edge", "pascal": "pascal-context"}[name])
    with pytest.raises(
        UserError,
        match=r"normals: .*boundary: .*\(~tasks.normals ~tasks.boundary; with a checkpoint: without=\[normals,boundary\]\)",
    ):
        build(name, root)


def test_the_real_set_without_normals(real_data):
    root = real_data / "PASCALContext_mini"
    with pytest.raises(UserError, match=r"normals: 18, normals_distill/2008_000652.png"):
        build("pascal", root)
    assert len(build("pascal", root, "~tasks.normals").datasets["val"]) == 6


def first_files(name):
    folders = {
        "nyud": {"semseg": "segmentation", "depth": "depth", "normals": "normals", "boundary": "edge"},
        "pascal": {
            "semseg": "semseg/VOC12",
            "human_parts": "human_parts",
            "saliency": "sal_distill",
            "normals": "normals_distill",
            "boundary": "pascal-context/trainval",
        },
    }[name]
    return [(name, task, folder) for task, folder in folders.items()]


@pytest.mark.parametrize(("name", "task", "folder"), [*first_files("nyud"), *first_files("pascal")])
def test_images_without_one_label_contribute_nothing_to_it_if_allowed(name, task, folder, tmp_path):
    root = SETS[name](tmp_path / "data")
    next(path for path in sorted((root / folder).iterdir()) if "0001" in path.name).unlink()
    with pytest.raises(UserError, match=f"{task}: 1, "):
        build(name, root)

    cfg = compose_config(f"data={name}")
    own = build_tasks(cfg)[task]
    data = build(name, root, "data.allow_missing=true", f"paths.output_dir={tmp_path}")
    for split in ("train_plain", "train"):
        for epoch in range(3):  # mirrored or not, zoomed or not
            target = loaded(data.datasets[split], 0, epoch)["targets"][task]
            assert target.shape == (1, own.target.channels, 64, 64)
            assert (target == 255).all()
    with_label = loaded(data.datasets["train_plain"], 1)["targets"]
    assert all((value != 255).any() for value in with_label.values())

    output = torch.randn(1, own.channels, 64, 64, requires_grad=True)
    loss = own.loss(output, target)
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None
    assert not output.grad.any()
    once, twice = own.new_metric(), own.new_metric()
    without, labelled = (loaded(data.datasets["train_scored"], index) for index in range(2))
    shown = own.postprocess(output.detach())
    own.update(once, shown, labelled, task)
    own.update(twice, shown, labelled, task)
    own.update(twice, shown, without, task)
    assert {k: float(v) for k, v in once.compute().items()} == pytest.approx(
        {k: float(v) for k, v in twice.compute().items()}, nan_ok=True
    )


@pytest.mark.parametrize(("height", "width"), [(96, 128), (47, 64), (64, 48)])
def test_labels_of_another_size_than_their_image_are_refused(tmp_path, height, width):
    root = write_miniature(tmp_path / "data")
    Image.fromarray(np.ones((height, width), np.uint8)).save(root / "edge" / "0001.png")
    with pytest.raises(UserError, match=rf"edge/0001.png: label of {height}x{width} pixels for.*{SIZE[0]}x{SIZE[1]}"):
        build("nyud", root).datasets["train_plain"][Draw(0, 0)]


@pytest.mark.parametrize("augment", ["true", "false"])
def test_a_share_of_one_tasks_labels_trains_and_all_of_them_score(augment, tmp_path):
    root = SETS["nyud"](tmp_path / "data")

    def labelled(share, split):
        data = build("nyud", root, f"data.label_share={{normals: {share}}}", f"data.augment={augment}")
        dataset = data.datasets[split]
        targets = [loaded(dataset, index)["targets"] for index in range(len(dataset))]
        assert all((own["depth"] != 255).any() for own in targets)
        return [bool((own["normals"] != 255).any()) for own in targets]

    everything = labelled(1.0, "train")
    assert all(everything)
    half, one = labelled(0.5, "train"), labelled(0.01, "train")
    assert sum(half) == round(0.5 * len(everything))
    assert sum(one) == 1
    assert all(h for h, o in zip(half, one, strict=True) if o)
    assert labelled(0.5, "train_plain") == half
    assert all(labelled(0.5, "train_scored"))
    assert all(labelled(0.5, "val"))


def test_a_share_of_the_labels_of_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="label_share: task=normal is not known; did you mean 'normals'"):
        build("nyud", SETS["nyud"](tmp_path / "data"), "data.label_share={normal: 0.5}")


def test_how_many_labels_are_used_is_said_once(tmp_path, caplog):
    with caplog.at_level("INFO"):
        build("nyud", SETS["nyud"](tmp_path / "data"), "data.label_share={normals: 0.5}")
    assert caplog.text.count("normals: 2 of 4 training images have their label") == 1


def test_a_spread_of_samples_has_one_with_a_label_of_each_task():
    ids = [f"{number:02d}" for number in range(40)]
    few = {"depth": frozenset(ids) - {"07", "08"}, "semseg": frozenset(ids[1:])}
    plain, hiding = (MultiTaskDataset(None, ids, None, seed=0, scale=1.0, hidden=hidden) for hidden in ({}, few))
    assert plain.spread(4) == [0, 13, 26, 39]
    assert hiding.spread(4) == [0, 7, 8, 13, 26, 39]
    assert plain.spread(500) == hiding.spread(500) == list(range(40))


def test_a_missing_class_map_that_only_crops_are_chosen_by_stops_a_run_before_it_starts(tmp_path):
    root = SETS["nyud"](tmp_path / "data")
    for sample_id in ("0002", "0005"):  # of training and of validation, which needs none
        (root / "segmentation" / f"{sample_id}.png").unlink()
    words = r"semseg: 1, segmentation/0002.png\), by which training crops are chosen; .*data.crop_guide=null"
    with pytest.raises(UserError, match=words):
        build("nyud", root, "~tasks.semseg")
    build("nyud", root, "~tasks.semseg", "data.crop_guide=null")
    build("nyud", root, "~tasks.semseg", "data.augment=false")


def test_the_warning_of_missing_labels_counts_images_and_not_files(tmp_path, caplog):
    root = SETS["pascal"](tmp_path / "data")
    (root / "normals_distill" / "2008_000001.png").unlink()
    (root / "pascal-context" / "trainval" / "2008_000001.mat").unlink()
    build("pascal", root, "data.allow_missing=true")
    assert "1 of 8 images have no normals label" in caplog.text
