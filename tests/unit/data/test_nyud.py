import re
from pathlib import Path

import numpy as np
import pytest
import torch
from albumentations import GaussNoise
from helpers.miniature import SIZE, write_miniature
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import ProcessInfo
from mtlsi_net.core.types import TargetSpec, count_labels
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.nyud import NYUDDataModule, NYUDLayoutReader
from mtlsi_net.data.sampling import Draw, EpochSampler, sample_rng

SPECS = {
    "semseg": TargetSpec(1, "classes", num_classes=40),
    "depth": TargetSpec(1, "scalar", fill=0.0, zoom_divides=True, invalid="zero"),
    "normals": TargetSpec(3, "vector", fill=0.0, flip_sign=(-1.0, 1.0, 1.0), invalid="short_vector"),
    "boundary": TargetSpec(1, "binary"),
}


def data_module(root, **options):
    arguments = {"size": (64, 80), "batch_size": 2, "crop_guide": SPECS["semseg"], **options}
    module = NYUDDataModule(str(root), SPECS, **arguments)
    module.setup()
    return module


@pytest.fixture
def root(tmp_path):
    return write_miniature(tmp_path / "data")


def test_decoding_and_invalid_pixels(root):
    batch = batch_values(next(iter(data_module(root).val_dataloader())), SPECS)
    inside = batch["valid"][0, 0]
    assert inside.sum() == SIZE[0] * SIZE[1]
    for name, target in batch["targets"].items():
        assert (target[0][:, ~inside] == 255).all(), name
    window = {name: target[0][:, 8:56, 8:72] for name, target in batch["targets"].items()}
    assert (window["semseg"][0, :2] == 255).all()
    assert set(window["semseg"][0, 2:].unique().tolist()) == {0, 1, 4}
    assert (window["depth"][0, :, -2:] == 255).all()
    assert window["depth"][0, :, :-2].max() < 4.01
    assert (window["normals"][:, -2:] == 255).all()
    assert torch.allclose(window["normals"][:, 5, 0], torch.tensor([-1 / 255, -1 / 255, 253 / 255]), atol=1e-6)
    assert set(window["boundary"].unique().tolist()) == {0, 1}


def test_augmentation_is_a_function_of_seed_epoch_and_id(root):
    dataset = data_module(root, seed=3).datasets["train"]
    first, again, later = dataset[Draw(0, 1)], dataset[Draw(0, 1)], dataset[Draw(1, 1)]
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], later["image"])
    assert sample_rng(0, 0, "0001").random() != sample_rng(0, 0, "0002").random()


def flat(batch):
    """Return all arrays of a batch as one, and its ids."""
    maps = [batch["image"], batch["valid"], *batch["targets"].values()]
    return torch.cat([m.flatten().float() for m in maps]), batch["id"]


def test_workers_do_not_change_the_batches(root):
    noise = [GaussNoise(p=0.5)]
    runs = [list(data_module(root, num_workers=n, extra_augmentations=noise).train_dataloader()) for n in (0, 2)]
    assert len(runs[0]) == len(runs[1]) == 2
    for alone, shared in zip(*runs, strict=True):
        (first, ids), (second, same_ids) = flat(alone), flat(shared)
        assert ids == same_ids
        assert torch.equal(first, second)


def test_every_seed_epoch_and_id_draws_anew_whatever_the_rank(root):
    """Two ranks hold datasets of their own; a sample's draws follow it to whichever rank reads it."""
    rank_0, rank_1, other_seed = (data_module(root, seed=seed).datasets["train"] for seed in (3, 3, 4))
    for name in ("images", "depth", "segmentation", "normals", "edge"):  # the same files under all ids
        for path in (root / name).iterdir():
            path.write_bytes((root / name / f"0001{path.suffix}").read_bytes())
    draws = [Draw(epoch, sample) for epoch in range(2) for sample in range(4)]
    seen = [flat(rank_0[draw])[0] for draw in draws]
    assert len({array.numpy().tobytes() for array in seen}) == len(draws)
    assert all(torch.equal(array, flat(rank_1[draw])[0]) for array, draw in zip(seen, draws, strict=True))
    assert not any(torch.equal(array, flat(other_seed[draw])[0]) for array, draw in zip(seen, draws, strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_shares_every_sample_once(ranks):
    seen = [
        draw.sample
        for rank in range(ranks)
        for draw in EpochSampler(7, seed=0, shuffle=False, batch_size=1, rank=rank, ranks=ranks)
    ]
    assert sorted(seen) == list(range(7))


def test_training_ranks_get_disjoint_full_batches_that_change_with_the_epoch():
    def epoch(number):
        samplers = [EpochSampler(11, seed=0, shuffle=True, batch_size=2, rank=r, ranks=2) for r in range(2)]
        for sampler in samplers:
            sampler.seek(number * len(sampler))
        return [[draw.sample for draw in sampler] for sampler in samplers]

    shares = epoch(0)
    assert [len(share) for share in shares] == [4, 4]
    assert not set(shares[0]) & set(shares[1])
    assert epoch(0) == shares != epoch(1)


def test_half_size_keeps_depth(root):
    full, half = (data_module(root, scale=scale, augment=False).datasets["val"][Draw(0, 0)] for scale in (1.0, 0.5))
    assert half["valid"].sum() * 4 == full["valid"].sum()
    depth = half["targets"]["depth"]
    assert 3.5 < depth[depth != 255].max() <= 4


def test_dev_split_holds_out_training_images(root):
    class Free(NYUDDataModule):
        dev_list = None

    module = Free(str(root), SPECS, size=(64, 80), batch_size=1, crop_guide=SPECS["semseg"], dev_split=True)
    module.setup()
    assert module.val_stage == "dev"
    assert module.datasets["train"].ids == ["0001", "0002", "0003"]
    assert module.datasets["val"].ids == ["0004"]


def test_shipped_lists_are_the_official_ones_and_dev_images_are_training_images():
    from importlib import resources

    lists = {
        name: resources.files("mtlsi_net.data").joinpath("splits", f"nyud_{name}.txt").read_text().split()
        for name in ("train", "val", "dev")
    }
    assert (len(lists["train"]), len(lists["val"])) == (795, 654)
    assert not set(lists["train"]) & set(lists["val"])
    assert set(lists["dev"]) < set(lists["train"])
    # whole runs of consecutive ids: their neighbours are no training images, so no scene is cut
    neighbours = {int(i) + step for i in lists["dev"] for step in (-1, 1)} - {int(i) for i in lists["dev"]}
    assert not neighbours & {int(i) for i in lists["train"]}


def spoil_depth(value):
    def spoil(root):
        path = root / "depth" / "0001.npy"
        depth = np.load(path)
        depth[3, 3] = value
        np.save(path, depth)

    return spoil


def save(folder, array):
    return lambda root: Image.fromarray(array).save(root / folder / "0001.png")


def truncate(file):
    def spoil(root):
        path = root / file
        path.write_bytes(path.read_bytes()[:-40])

    return spoil


GET = "get NYUDv2.tar.gz"
REPLACE = "replace the file from its source"
BAD_FILES = [
    (lambda root: (root / "normals" / "0001.png").unlink(), "normals/0001.png", f"{GET}.*~tasks.normals"),
    (lambda root: (root / "images" / "0001.png").unlink(), "images/0001.png", GET),
    (truncate("images/0001.png"), "images/0001.png: cannot be read as an image", REPLACE),
    (truncate("segmentation/0001.png"), "segmentation/0001.png: cannot be read as an image", REPLACE),
    (truncate("normals/0001.png"), "normals/0001.png: cannot be read as an image", REPLACE),
    (truncate("depth/0001.npy"), "depth/0001.npy: cannot be read as .npy", REPLACE),
    (lambda root: (root / "edge" / "0001.png").write_bytes(b""), "edge/0001.png: cannot be read as an image", REPLACE),
    (spoil_depth(np.nan), "depth/0001.npy: 1 depth values are NaN", "store metres, and 0 where depth is missing"),
    (spoil_depth(-0.5), "depth/0001.npy: 1 depth values are .*negative", "store metres, and 0 where"),
    (
        lambda root: np.save(root / "depth" / "0001.npy", np.zeros((*SIZE, 3))),
        "depth/0001.npy: expected a 2-D",
        "store one number per pixel",
    ),
    (
        save("segmentation", np.full(SIZE, 41, np.uint8)),
        "segmentation/0001.png: class value 41 found, but stored values go from 0 .unlabelled. to 40",
        "another label set, or the task's class list is too short",
    ),
    (save("segmentation", np.zeros((10, 10), np.uint8)), "segmentation/0001.png.*10x10.*48x64", "at the image's size"),
    (save("edge", np.zeros((96, 128), np.uint8)), "edge/0001.png: label of 96x128 pixels", "at the image's size"),
    (
        save("edge", np.full((*SIZE, 3), (0, 9, 255), np.uint8)),
        "edge/0001.png.*single-channel.*RGB",
        "store one byte per pixel",
    ),
    (
        save("segmentation", np.full(SIZE, 300, np.uint16)),
        "segmentation/0001.png: class value 300",
        "0 .unlabelled. to 40",
    ),
    (save("images", np.zeros((480, 640, 3), np.uint8)), "images/0001.png: this is the 480x640 copy", GET),
    (lambda root: (root / "gt_sets" / "train.txt").write_text(""), "train.txt lists no images", GET),
    (lambda root: (root / "gt_sets" / "val.txt").write_text(" \n"), "val.txt lists no images", GET),
    (
        lambda root: (root / "gt_sets" / "train.txt").write_text("0001\n0001\n"),
        "train.txt lists some ids more than once .0001.",
        "remove the duplicates",
    ),
    (
        lambda root: (root / "gt_sets" / "train.txt").write_bytes(b"\xff\xfe\x80"),
        "train.txt: cannot be read",
        "fix its permissions or replace it",
    ),
    (lambda root: (root / "gt_sets" / "train.txt").unlink(), "train.txt is missing", GET),
]


@pytest.mark.parametrize(("spoil", "what", "remedy"), BAD_FILES)
def test_bad_files_are_named_with_the_remedy(root, spoil, what, remedy):
    spoil(root)
    with pytest.raises(UserError) as error:
        data_module(root).datasets["train"][Draw(0, 0)]
    assert re.fullmatch(f".*{what}.*{remedy}.*", str(error.value)), error.value  # a dot is no line break: one line


@pytest.mark.parametrize(
    ("method", "what"), [("iterdir", "images: cannot be listed"), ("read_bytes", "train.txt: cannot")]
)
def test_folders_and_lists_without_permission_are_named(root, monkeypatch, method, what):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UserError) as error:
        data_module(root)
    assert re.fullmatch(f".*{what}.*Permission denied.*; fix its permissions.*", str(error.value)), error.value


def test_an_image_without_permission_is_named(root, monkeypatch):
    dataset = data_module(root).datasets["train"]

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        UserError, match=r"images/0001.png: cannot be read as an image \(.*Permission denied.*\); replace"
    ):
        dataset[Draw(0, 0)]


def test_a_place_of_files_that_is_none_is_named_as_it_was_given(tmp_path):
    with pytest.raises(UserError, match=r"data.files.image=photos: give \[folder, suffix\]"):
        NYUDLayoutReader(tmp_path, {}, files={"image": "photos"})


def test_missing_folder_says_what_to_get(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; get NYUDv2.tar.gz"):
        data_module(tmp_path / "nowhere")


def test_unknown_task_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'normals'"):
        NYUDLayoutReader(tmp_path, {"normal": SPECS["normals"]})


@pytest.mark.parametrize("counts_labels", [False, True])
def test_processes_and_micro_batches_share_the_batch_of_one(root, monkeypatch, counts_labels):
    def epoch(rank, ranks, micro_batch=None):
        monkeypatch.setattr(
            "mtlsi_net.data.datamodule.process_info", lambda: ProcessInfo(rank, ranks, rank, "torchrun")
        )
        data = data_module(root, batch_size=4, micro_batch=micro_batch)
        data.counts_labels = counts_labels
        loader = data.train_dataloader()
        batches = list(loader)
        assert len(batches) == len(loader)
        if not counts_labels:
            assert all(batch["image"].dtype == torch.uint8 for batch in batches)
        return [data.on_after_batch_transfer(batch, 0) for batch in batches]

    (whole,) = epoch(0, 1)
    shares = [epoch(rank, 2, 1) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    parts = [part for share in shares for part in share]
    assert sorted(name for part in parts for name in part["id"]) == sorted(whole["id"])
    for part in parts:  # augmented as it is in one process, whoever loads it
        (name,) = part["id"]
        position = whole["id"].index(name)
        assert torch.equal(part["image"][0], whole["image"][position])
        for task, target in part["targets"].items():
            assert torch.equal(target[0], whole["targets"][task][position])
    assert all(("labelled" in part) == counts_labels for part in parts)
    for first, second in shares if counts_labels else ():
        assert first["labelled"].keys() == first["targets"].keys()
        for task, counts in first["labelled"].items():
            own = torch.cat([part["targets"][task] for part in (first, second)])
            assert counts.tolist() == second["labelled"][task].tolist() == count_labels(own).tolist()
    assert [len(part["id"]) for part in epoch(0, 1, 2)] == [2, 2]
    assert len(epoch(0, 1, 8)) == 1, "a process never has to take as much as it may"


def test_a_process_without_an_image_has_one_empty_batch(root, monkeypatch):
    monkeypatch.setattr("mtlsi_net.data.datamodule.process_info", lambda: ProcessInfo(6, 7, 6, "torchrun"))
    loader = data_module(root).val_dataloader()
    assert len(loader) == 1
    (batch,) = loader
    assert batch["id"] == []
    everything = data_module(root).eval_dataloader("val", shared=False)
    assert len(list(everything)) == len(everything.dataset)


@pytest.mark.parametrize(
    ("ranks", "options", "message"),
    [
        (3, {"batch_size": 4}, "batch_size=4 .* cannot be shared by 3 processes; use a multiple"),
        (2, {"batch_size": 6, "micro_batch": 2}, r"micro_batch=2 does not divide the 3 images .*batch_size=6 in 2"),
    ],
)
def test_batches_that_do_not_divide_are_refused(root, monkeypatch, ranks, options, message):
    monkeypatch.setattr("mtlsi_net.data.datamodule.process_info", lambda: ProcessInfo(0, ranks, 0, "torchrun"))
    with pytest.raises(UserError, match=message):
        _ = data_module(root, **options).micro_batches


def test_too_large_a_batch_is_refused(root):
    with pytest.raises(UserError, match="4 training images cannot fill"):
        data_module(root, batch_size=5).train_dataloader()


def test_real_photographs_have_the_stated_labels(real_data):
    module = NYUDDataModule(
        str(real_data / "NYUDv2_mini"), SPECS, size=(448, 576), batch_size=1, crop_guide=SPECS["semseg"]
    )
    module.setup()
    assert {split: len(module.datasets[split]) for split in ("train", "val")} == {"train": 7, "val": 3}
    for stored in module.val_dataloader():
        batch = batch_values(stored, SPECS)
        targets = batch["targets"]
        inside = batch["valid"][0]
        assert inside.sum() == 425 * 560
        depth = targets["depth"][0][inside]
        assert 0.3 < depth[depth != 255].min() < depth[depth != 255].max() < 11
        normals = targets["normals"][0][:, inside[0]]
        lengths = normals[:, normals[0] != 255].norm(dim=0)
        assert (lengths - 1).abs().mean() < 0.02
        assert targets["semseg"][0][inside].max() == 255
        assert 0.005 < (targets["boundary"][0][inside] == 1).float().mean() < 0.2
