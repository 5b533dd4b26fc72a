import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.miniature import compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature
from helpers.samples import loaded
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data import reader
from mtlsi_net.data.cache import DecodedCache, LabelCache
from mtlsi_net.data.nyud import NYUDLayoutReader, NYUDReader
from mtlsi_net.data.pascal import PascalReader
from mtlsi_net.engine.build import build_data, build_tasks

CACHES = {cache.suffix: cache for cache in (LabelCache, DecodedCache)}


def kept_map(suffix, folder, source, compute):
    return CACHES[suffix](folder).get("kind", [source], compute)


@pytest.mark.parametrize("suffix", CACHES)
def test_a_kept_map_is_used_until_its_source_changes_or_it_is_damaged(suffix, tmp_path):
    source, cache, calls = tmp_path / "a.mat", tmp_path / "cache", []

    def compute():
        calls.append(1)
        return np.full((2, 3), len(calls), np.uint8)

    source.write_text("one")
    assert [int(kept_map(suffix, cache, source, compute)[0, 0]) for _ in range(2)] == [1, 1]
    source.write_text("other")
    assert int(kept_map(suffix, cache, source, compute)[0, 0]) == 2
    for path in cache.rglob(f"*{suffix}"):
        path.write_bytes(b"half a pic")
    assert int(kept_map(suffix, cache, source, compute)[0, 0]) == 3
    for path in cache.rglob(f"*{suffix}"):
        path.write_bytes(b"")
    assert int(kept_map(suffix, cache, source, compute)[0, 0]) == 4


@pytest.mark.parametrize("suffix", CACHES)
def test_a_write_that_breaks_off_leaves_nothing(suffix, tmp_path, monkeypatch, caplog):
    source = tmp_path / "a.mat"
    source.write_text("x")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    cache = CACHES[suffix](tmp_path / "cache")
    for _ in range(2):
        assert cache.get("kind", [source], lambda: np.ones((2, 3), np.uint8)).sum() == 6
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert caplog.text.count("No space left") == 1
    assert f"{cache.setting}=" in caplog.text


@pytest.mark.parametrize("suffix", CACHES)
def test_a_full_disk_leaves_what_is_kept_in_use(suffix, tmp_path, monkeypatch):
    cache, sources = CACHES[suffix](tmp_path / "cache"), [tmp_path / "a.mat", tmp_path / "b.mat"]
    for source in sources:
        source.write_text(source.stem)
    ones = np.ones((2, 3), np.uint8)
    cache.get("kind", sources[:1], lambda: ones)
    (kept,) = (tmp_path / "cache" / "kind").iterdir()
    assert kept.stat().st_mode & 0o777 == sources[0].stat().st_mode & 0o777, "others may read it too"
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cache.get("kind", sources[1:], lambda: 2 * ones).sum() == 12
    assert cache.get("kind", sources[:1], lambda: pytest.fail("made again")).sum() == 6


def test_any_damage_to_an_array_is_recognised(tmp_path):
    cache, source = DecodedCache(tmp_path / "cache"), tmp_path / "a.png"
    source.write_text("x")
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    cache.get("kind", [source], lambda: values)
    (path,) = (tmp_path / "cache" / "kind").iterdir()
    whole = path.read_bytes()
    for position in range(len(whole) - values.size):
        for byte in (0, ord("("), ord("'")):
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            found = cache.read(path)
            assert found is None or found.dtype.kind in "uibSV", position  # a header may still be one
    path.write_bytes(b"PK\x03\x04" + whole)
    assert cache.read(path) is None


@pytest.mark.parametrize("suffix", CACHES)
def test_many_writers_of_one_map_leave_it_whole(suffix, tmp_path):
    source = tmp_path / "a.mat"
    source.write_text("x")
    values = np.random.default_rng(0).integers(0, 7, (300, 400)).astype(np.uint8)
    with ThreadPoolExecutor(8) as pool:
        maps = list(pool.map(lambda _: kept_map(suffix, tmp_path / "cache", source, lambda: values), range(40)))
    assert all(np.array_equal(kept, values) for kept in maps)
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 1


# -- decoded images and labels ------------------------------------------------------------------------------------------

SETS = {"nyud": write_miniature, "pascal": write_pascal_miniature}


def build(name, root, *overrides):
    cfg = compose_config(f"data={name}", f"data.root={root}", "data.size=[64,64]", "data.num_workers=0", *overrides)
    return build_data(cfg, build_tasks(cfg))


def all_of(data):
    """Return every sample, some of training twice, and the references."""
    return [
        loaded(data.datasets[split], index, epoch)
        for split, epoch in (("train", 0), ("train", 1), ("train_scored", 0), ("val", 0))
        for index in range(len(data.datasets[split]))
    ]


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch["id"] == other["id"]
        assert batch["image"].equal(other["image"])
        for name, target in batch["targets"].items():
            assert target.equal(other["targets"][name]), name


@pytest.mark.parametrize("name", SETS)
def test_files_are_decoded_once_and_samples_are_the_same(name, tmp_path, monkeypatch):
    root, options = SETS[name](tmp_path / "data"), (f"paths.output_dir={tmp_path}",)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    plain = all_of(build(name, root, *options))
    data = build(name, root, *options, f"data.decoded_dir={tmp_path}/decoded")
    assert_equal(all_of(data), plain)

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(reader, "read_image", refuse)
    for dataset in data.datasets.values():
        monkeypatch.setattr(type(dataset.reader), "read_label", refuse)
        dataset.groups = None  # references are read from the files themselves
    assert_equal(all_of(data), plain)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_changed_file_or_meaning_is_decoded_anew(tmp_path):
    root, decoded = write_miniature(tmp_path / "data"), f"data.decoded_dir={tmp_path}/decoded"
    (first, *_) = all_of(build("nyud", root, decoded, "data.augment=false"))
    path = root / "images" / "0001.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    (second, *_) = all_of(build("nyud", root, decoded, "data.augment=false"))
    assert first["id"] == second["id"] == ["0001"]
    inside = first["valid"].expand_as(first["image"])
    assert (first["image"] + second["image"])[inside].allclose(second["image"].new_ones(1))
    fewer = NYUDReader(root, {"semseg": TargetSpec(1, "classes", num_classes=2)})
    fewer.decoded = DecodedCache(tmp_path / "decoded")
    with pytest.raises(UserError, match=r"segmentation/0001.png: class value 5 found"):
        fewer.read("0001")


def test_a_map_depends_on_the_readers_class_and_on_the_images_size(tmp_path):
    class Inverted(NYUDLayoutReader):
        def read_label(self, name, sample_id, size):
            return 255 - super().read_label(name, sample_id, size)

    root, spec = write_miniature(tmp_path / "data"), {"boundary": TargetSpec(1, "binary")}
    plain, inverted = (reader(root, spec) for reader in (NYUDLayoutReader, Inverted))
    plain.decoded = inverted.decoded = DecodedCache(tmp_path / "decoded")
    first, second = (reader.read("0001")["boundary"] for reader in (plain, inverted))
    assert (first.astype(int) + second == 255).all()

    root = write_pascal_miniature(tmp_path / "pascal")
    spec = {"human_parts": TargetSpec(1, "classes", num_classes=7)}
    for cache in (LabelCache(None), LabelCache(tmp_path / "labels")):
        reader = PascalReader(root, spec, cache=cache)
        reader.decoded = DecodedCache(tmp_path / "decoded")
        path = root / "JPEGImages" / "2008_000004.jpg"  # without persons, so that its parts have any size
        for size in ((40, 56), (20, 30)):
            Image.new("RGB", size[::-1]).save(path)
            assert reader.read("2008_000004")["human_parts"].shape[:2] == size


def test_a_folder_inside_the_data_set_is_refused(tmp_path):
    root = write_miniature(tmp_path / "data")
    for folder in (root, root / "decoded"):
        with pytest.raises(UserError, match=r"data.decoded_dir=.* lies inside the data set"):
            build("nyud", root, f"data.decoded_dir={folder}")


def test_a_bad_file_is_told_and_not_kept(tmp_path):
    root = write_miniature(tmp_path / "data")
    path = root / "segmentation" / "0001.png"
    path.write_bytes(path.read_bytes()[:60])
    data = build("nyud", root, f"data.decoded_dir={tmp_path}/decoded")
    for _ in range(2):
        with pytest.raises(UserError, match=r"segmentation/0001.png: cannot be read"):
            all_of(data)
    assert not list((tmp_path / "decoded" / "semseg").glob("0001*"))
