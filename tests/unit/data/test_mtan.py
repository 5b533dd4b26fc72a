import numpy as np
import pytest
import torch
from helpers.mtan_miniature import write_mtan

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.mtan import CityscapesMtanDataModule, MtanReader, NYUv2MtanDataModule
from mtlsi_net.tasks.depth import DepthTask, DisparityTask
from mtlsi_net.tasks.normals import NormalsTask
from mtlsi_net.tasks.semseg import SemsegTask

NYU = {"semseg": SemsegTask("nyu13").target, "depth": DepthTask().target, "normals": NormalsTask().target}
CITY = {"semseg": SemsegTask("cityscapes7").target, "depth": DisparityTask().target}


def module(root, targets=NYU, size=(36, 48), kind=NYUv2MtanDataModule, **options):
    return kind(str(root), targets, size=size, batch_size=2, crop_guide=None, **options)


@pytest.fixture
def root(tmp_path):
    return write_mtan(tmp_path / "nyuv2", train=12, val=3)


def test_files_are_read_as_they_were_stored(root):
    reader = MtanReader(root, NYU)
    assert reader.ids("train") == [f"train/{i}" for i in range(12)]  # in the order of numbers
    assert reader.ids("val") == ["val/0", "val/1", "val/2"]
    sample = reader.read("train/10")
    stored = {name: np.load(root / "train" / name / "10.npy") for name in ("image", "label", "depth", "normal")}
    np.testing.assert_array_equal(sample["image"], np.round(stored["image"] * 255))
    np.testing.assert_allclose(sample["image"] / 255, stored["image"], atol=1e-7)  # archives hold multiples of 1/255
    label = sample["semseg"][..., 0].astype(int)
    np.testing.assert_array_equal(np.where(label == 255, -1, label), stored["label"])
    np.testing.assert_array_equal(sample["depth"], stored["depth"])
    np.testing.assert_allclose(sample["normals"], stored["normal"], atol=1e-6)
    assert reader.image_size("train/10") == (36, 48)


def test_batches_mark_unlabelled_pixels_and_missing_depth_and_normals(root):
    data = module(root, augment=False)
    data.setup()
    batch = data.to_device(next(iter(data.eval_dataloader("val"))), torch.device("cpu"))
    assert batch["image"].shape == (1, 3, 36, 48)
    assert batch["image"].max() <= 1
    label, depth, normal = (
        torch.from_numpy(np.load(root / "val" / name / "0.npy")) for name in ("label", "depth", "normal")
    )
    assert torch.equal(batch["targets"]["semseg"][0, 0] == 255, label == -1)
    assert torch.equal(batch["targets"]["depth"][0, 0] == 255, depth[..., 0] == 0)
    assert torch.equal(batch["targets"]["normals"][0, 0] == 255, (normal == 0).all(-1))


def test_training_batches_are_augmented_at_the_images_own_size(root):
    data = module(root)
    data.setup()
    batch = data.to_device(next(iter(data.train_dataloader())), torch.device("cpu"))
    assert batch["image"].shape == (2, 3, 36, 48)
    assert batch["valid"].all()  # no padding
    lengths = batch["targets"]["normals"].square().sum(1).sqrt()
    assert torch.allclose(lengths[batch["targets"]["normals"][:, 0] != 255], torch.tensor(1.0), atol=1e-5)


def test_cityscapes_has_no_normals_and_its_classes_may_lie_in_a_numbered_folder(tmp_path):
    root = write_mtan(tmp_path / "city", "cityscapes_mtan")
    assert MtanReader(root, CITY).read("val/0").keys() == {"image", "semseg", "depth"}
    for split in ("train", "val"):
        (root / split / "label").rename(root / split / "label_7")
    reader = MtanReader(root, CITY)
    assert reader.files("semseg", "val/2") == [root / "val" / "label_7" / "2.npy"]
    data = module(root, CITY, (32, 64), CityscapesMtanDataModule)
    data.setup()
    assert len(data.datasets["val"]) == 3
    nineteen = {"semseg": TargetSpec(1, "classes", 19)}
    with pytest.raises(UserError, match=r"files are missing \(semseg: 7, "):
        module(root, nineteen, (32, 64), CityscapesMtanDataModule).setup()


def damage(root, name, number, change):
    path = root / "train" / name / f"{number}.npy"
    np.save(path, change(np.load(path)))


def put(value):
    def change(array):
        array = array.astype(np.float64)
        array[5, 5] = value
        return array

    return change


BAD = {
    "a label beyond the class list": ("label", put(13), "class value 13 found, but stored values go from 0 to 12"),
    "a label below -1": ("label", put(-2), "class value -2 found"),
    "a fraction of a class": ("label", put(2.5), "expected whole numbers of classes, found 2.5"),
    "a class that is NaN": ("label", put(np.nan), "expected whole numbers of classes, found nan"),
    "an image that is not in [0, 1]": ("image", put(1.5), "image values from .* to 1.5; store floats in"),
    "an image with NaN": ("image", put(np.nan), "image values from nan to nan"),
    "an image by planes": ("image", lambda a: a.transpose(2, 0, 1), r"shape \(H, W, 3\), found float32 of shape"),
    "negative depth": ("depth", put(-1), "1 depth values are NaN, infinite or negative"),
    "normals in bytes' range": ("normal", put(127), "normals of length up to"),
    "a label of another size": ("label", lambda a: a[:, :-1], "label of 36x47 pixels for an image of 36x48"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_one_line_that_names_the_file(root, case):
    name, change, message = BAD[case]
    damage(root, name, 7, change)
    with pytest.raises(UserError, match=message) as found:
        MtanReader(root, NYU).read("train/7")
    assert f"train/{name}/7.npy" in str(found.value)
    assert "\n" not in str(found.value)
    assert "one_based" not in str(found.value)  # a setting that this layout does not have


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "train/image/5.npy",
            r"files are missing \(image: 1, train/image/5.npy\); files are numbered 0, 1, 2, ... without",
        ),
        ("train/depth/5.npy", r"files are missing \(depth: 1, train/depth/5.npy\)"),
        ("train/image/11.npy", r"files are missing \(image: 1, train/image/11.npy\)"),  # its labels are still there
    ],
)
def test_files_missing_in_the_index_are_named(root, lost, message):
    (root / lost).unlink()
    with pytest.raises(UserError, match=message):
        module(root).setup()


def test_a_task_without_a_file_is_left_out_where_that_is_allowed(root):
    (root / "train" / "depth" / "5.npy").unlink()
    data = module(root, allow_missing=True)
    data.setup()
    assert len(data.datasets["train"]) == 12


def test_other_files_beside_the_arrays_are_no_samples(root):
    (root / "train" / "image" / "._3.npy").write_bytes(b"")
    (root / "train" / "image" / "readme.txt").write_text("")
    assert len(MtanReader(root, NYU).ids("train")) == 12


def test_another_image_size_is_refused_with_the_setting_for_it(tmp_path):
    root = write_mtan(tmp_path / "large", "cityscapes_mtan", size=(64, 128))
    with pytest.raises(UserError, match=r"4 of 4 images are not 32x64, e.g. 64x128 .*set data.size=\[64,128\]"):
        module(root, CITY, (32, 64), CityscapesMtanDataModule).setup()
    module(root, CITY, (64, 128), CityscapesMtanDataModule).setup()


def test_one_image_of_another_size_is_found_before_training(root):
    for name in ("image", "label", "depth", "normal"):
        damage(root, name, 7, lambda a: a[:20])
    with pytest.raises(UserError, match=r"1 of 12 images are not 36x48, e.g. 20x48 \(train/image/7.npy\)"):
        module(root).setup()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val").rename(root / "test"), "val is missing; files are numbered"),
        (lambda root: [f.unlink() for f in (root / "val").rglob("*.npy")], "val/image holds no files 0.npy"),
        (lambda root: root.rename(root.parent / "moved"), "data folder .* does not exist"),
    ],
)
def test_missing_splits_are_said(root, change, message):
    change(root)
    with pytest.raises(UserError, match=message):
        module(root).setup()


def test_a_smaller_scale_is_refused_since_all_images_keep_their_size(root):
    with pytest.raises(
        UserError, match=r"data.scale=0.5: all images of this data set keep their size; leave data.scale"
    ):
        module(root, scale=0.5).setup()
