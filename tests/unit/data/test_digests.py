import json
import os

import pytest
from helpers.miniature import compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature
from hydra.utils import instantiate

from mtlsi_net.data import digests
from mtlsi_net.data.digests import data_files, describe_data, find_digests, sha256_of
from mtlsi_net.data_tools.verify import verify
from mtlsi_net.engine.build import build_tasks
from mtlsi_net.engine.record import PROTOCOL, describe_scores

WRITERS = {"nyud": write_miniature, "pascal": write_pascal_miniature}


def open_data(name, root, *overrides):
    cfg = compose_config(f"data={name}", f"data.root={root}", f"paths.output_dir={root.parent / 'out'}", *overrides)
    tasks = build_tasks(cfg)
    module = instantiate(cfg.data, _convert_="all")(targets={n: task.target for n, task in tasks.items()})
    return cfg, tasks, module


def reader_of(name, root, *overrides):
    module = open_data(name, root, *overrides)[2]
    return module.make_reader(module.targets)


def verified(name, root, folder, *overrides):
    quick = ("workers=1", "progress=false", "samples=1", f"paths.output_dir={root.parent / 'out'}")
    place = (f"data={name}", f"data.root={root}", f"paths.run_dir={folder}")
    verify(compose_config(*place, *quick, *overrides, name="verify_data"))
    return json.loads((folder / "verify.json").read_text())["manifest_sha256"]


@pytest.fixture
def no_hashing(monkeypatch):
    """Let every further look into a file fail the test."""

    def forbid():
        monkeypatch.setattr(digests, "_digest", lambda path: pytest.fail(f"{path} was read again"))

    return forbid


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("overrides", [(), ("~tasks.normals",)])
def test_it_is_the_manifest_of_verify_data(name, overrides, tmp_path):
    root = WRITERS[name](tmp_path / "data")
    found = describe_data(reader_of(name, root, *overrides), tmp_path / "cache")
    assert found["manifest_sha256"] == verified(name, root, tmp_path / "verified", *overrides)


def test_files_outside_the_data_sets_folder_are_described_too(tmp_path):
    root = write_miniature(tmp_path / "data")
    (root / "images").rename(tmp_path / "photos")
    elsewhere = f"+data.files={{image:[{tmp_path}/photos,.png]}}"
    reader = reader_of("nyud", root, elsewhere)
    assert all(name.startswith("../photos/") for name in data_files(reader)["image"])
    assert describe_data(reader, tmp_path / "cache")["manifest_sha256"] == verified(
        "nyud", root, tmp_path / "verified", elsewhere
    )


def test_a_copy_that_kept_its_time_of_change_is_read_again(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = find_digests(tmp_path, {"a": path}, tmp_path / "cache")
    times = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find_digests(tmp_path, {"a": path}, tmp_path / "cache") != first


@pytest.mark.parametrize("name", ["NYUDv2_mini", "PASCALContext_mini"])
def test_it_is_the_manifest_of_verify_data_on_real_files(name, real_data, tmp_path):
    data = {"NYUDv2_mini": "nyud", "PASCALContext_mini": "pascal"}[name]
    cache = ("paths.output_dir=" + str(tmp_path / "out"),)
    found = describe_data(reader_of(data, real_data / name), tmp_path / "cache")
    assert found["manifest_sha256"] == verified(data, real_data / name, tmp_path / "verified", *cache)


def test_runs_of_different_tasks_can_be_compared_where_they_overlap(tmp_path):
    root = write_miniature(tmp_path / "data")
    whole = describe_data(reader_of("nyud", root), tmp_path / "cache")
    part = describe_data(reader_of("nyud", root, "~tasks.depth"), tmp_path / "cache")
    assert whole["manifest_sha256"] != part["manifest_sha256"]
    assert set(whole["parts"]) == {"lists", "image", "semseg", "depth", "normals", "boundary"}
    assert part["parts"] == {k: v for k, v in whole["parts"].items() if k != "depth"}
    assert (whole["files"], part["files"]) == (2 + 6 * 5, 2 + 6 * 4)


def test_only_changed_files_are_read_again(tmp_path, monkeypatch):
    root = write_miniature(tmp_path / "data")
    reader = reader_of("nyud", root)
    before = describe_data(reader, tmp_path / "cache")
    (root / "depth" / "0003.npy").write_bytes(b"other")
    read = []
    monkeypatch.setattr(digests, "_digest", lambda path: read.append(path.name) or sha256_of(path))
    after = describe_data(reader, tmp_path / "cache")
    assert read == ["0003.npy"]
    changed = {part for part, digest in after["parts"].items() if before["parts"][part] != digest}
    assert changed == {"depth"}
    assert describe_data(reader, tmp_path / "cache") == after
    assert read == ["0003.npy"]


def test_what_verify_data_read_is_not_read_again(tmp_path, no_hashing):
    root = write_miniature(tmp_path / "data")
    sha256 = verified("nyud", root, tmp_path / "verified")
    no_hashing()
    assert describe_data(reader_of("nyud", root), tmp_path / "out" / "cache" / "digests")["manifest_sha256"] == sha256


def test_what_is_known_is_read_again_where_that_is_asked(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = find_digests(tmp_path, {"a": path}, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(kept.read_text().replace(first["a"], "0" * 64))  # a disk that changed bytes and no time
    assert find_digests(tmp_path, {"a": path}, tmp_path / "cache") == {"a": "0" * 64}
    assert find_digests(tmp_path, {"a": path}, tmp_path / "cache", reread=True) == first
    assert find_digests(tmp_path, {"a": path}, tmp_path / "cache") == first


@pytest.mark.parametrize("content", ["", "[]", '{"images/0001.png": [], "images/0002.png": 7}', "{"])
def test_a_damaged_cache_is_replaced(tmp_path, content):
    root = write_miniature(tmp_path / "data")
    reader = reader_of("nyud", root)
    right = describe_data(reader, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(content)
    assert describe_data(reader, tmp_path / "cache") == right
    assert len(json.loads(kept.read_text())) == right["files"]


def test_without_a_cache_folder_it_says_so_and_goes_on(tmp_path, caplog):
    root = write_miniature(tmp_path / "data")
    (tmp_path / "file").write_text("")
    found = describe_data(reader_of("nyud", root), tmp_path / "file" / "cache")
    assert found == describe_data(reader_of("nyud", root), tmp_path / "cache")
    assert "cannot cache digests" in caplog.text


def test_files_that_are_missing_or_unreadable_have_no_digest(tmp_path):
    root = write_miniature(tmp_path / "data")
    (root / "normals" / "0001.png").unlink()
    (root / "normals" / "0002.png").unlink()
    (root / "normals" / "0002.png").mkdir()
    found = find_digests(root, data_files(reader_of("nyud", root))["normals"], tmp_path / "cache")
    assert sorted(found) == [f"normals/000{k}.png" for k in (3, 4, 5, 6)]


def test_the_record_holds_protocol_metrics_and_data(tmp_path):
    root = write_miniature(tmp_path / "data")
    cfg, tasks, module = open_data("nyud", root, "data.scale=0.5")
    record = describe_scores(cfg, module, tasks, {"fit": 1.234})
    assert record["protocol"] == PROTOCOL
    assert record["data"] | {"root": str(root), "name": "nyud", "stage": "val", "scale": 0.5} == record["data"]
    assert len(record["data"]["manifest_sha256"]) == 64
    assert json.loads(json.dumps(record["metrics"])) == record["metrics"]
    assert record["metrics"]["boundary"]["preset"] == "nyud"
    assert record["metrics"]["semseg"] == {
        "pooled_over": "pixels",
        "classes": 40,
        "mIoU_classes": 40,
        "absent_class": 0.0,
    }
    assert record["seconds"] == {"fit": 1.23}


def test_a_run_does_not_fail_for_its_record(tmp_path, caplog):
    root = write_miniature(tmp_path / "data")
    cfg, tasks, module = open_data("nyud", root)
    (root / "gt_sets" / "val.txt").unlink()  # gone while the run went on
    record = describe_scores(cfg, module, tasks, {})
    assert record["data"]["manifest_sha256"] is None
    assert "val.txt is missing" in caplog.text


def test_each_split_list_is_read_once_whatever_the_number_of_tasks(tmp_path, monkeypatch):
    reader = reader_of("nyud", write_miniature(tmp_path / "data"))
    ids, read = reader.ids, []
    monkeypatch.setattr(reader, "ids", lambda split: read.append(split) or ids(split))
    data_files(reader)
    assert read == ["train", "val"]
