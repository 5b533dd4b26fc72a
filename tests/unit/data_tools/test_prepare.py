import json

import numpy as np
import pytest
from helpers.miniature import compose_config
from helpers.nyu_mat import scene, write_nyu_mat
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.data_tools import prepare as prepare_module
from mtlsi_net.data_tools.findings import Level
from mtlsi_net.data_tools.prepare import prepare
from mtlsi_net.data_tools.verify import verify


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_nyu_mat(tmp_path_factory.mktemp("mat") / "nyu_depth_v2_labeled.mat")


def run(file, out, *overrides):
    words = (f"file={file}", f"out={out}", "progress=false", *overrides)
    return prepare(compose_config(*words, name="prepare"))


def state(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.suffix in (".png", ".npy")}


@pytest.fixture(scope="module")
def prepared(file, tmp_path_factory):
    return run(file, tmp_path_factory.mktemp("out") / "data")


def test_files_hold_the_scenes(prepared):
    for number in range(3):
        image, depth, _, labels, _ = (part[45:470, 40:600] for part in scene(number))
        name = f"{number + 1:04d}"
        assert np.array_equal(np.asarray(Image.open(prepared / "images" / f"{name}.png")), image)
        assert np.array_equal(np.load(prepared / "depth" / f"{name}.npy"), depth)
        classes = np.asarray(Image.open(prepared / "segmentation" / f"{name}.png"))
        assert (classes[labels == 5] == 5).all()
    assert json.loads((prepared / "prepared.json").read_text())["label_names"][20] == "wall"
    assert (prepared / "gt_sets" / "train.txt").read_text().split() == ["0003"]  # the official split
    assert (prepared / "gt_sets" / "val.txt").read_text().split() == ["0001", "0002"]


def test_verification_finds_it_usable_and_says_what_differs(prepared, tmp_path, capsys):
    options = (f"data.root={prepared}", "workers=1", "progress=false", "samples=2", f"paths.run_dir={tmp_path}")
    result = verify(compose_config("data=nyud", *options, name="verify_data"))
    assert result.level == Level.DIFFERS
    texts = [finding.text for finding in result.findings]
    assert any("not as in the copy behind published numbers: normals: planes fitted" in text for text in texts)
    assert not any("image sizes" in text for text in texts)
    said = capsys.readouterr().out
    assert "copy: prepared from nyu_depth_v2_labeled.mat" in said
    assert "verdict, exit code 1: usable, but not comparable with published numbers" in said


def test_an_interrupted_command_continues(file, tmp_path, monkeypatch, caplog):
    out, write, count = tmp_path / "data", prepare_module._write, 0

    def interrupt(path, array):
        nonlocal count
        count += 1
        if count == 9:  # in the middle of the second image's six files
            raise KeyboardInterrupt
        write(path, array)

    monkeypatch.setattr(prepare_module, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(file, out)
    assert not json.loads((out / "prepared.json").read_text())["complete"]
    first = {path: when for path, when in state(out).items() if path.stem == "0001"}
    assert len(first) == 6
    monkeypatch.setattr(prepare_module, "_write", write)
    (out / "depth" / "0002.0f.tmp").touch()  # of a process that was killed while it wrote
    with caplog.at_level("INFO"):
        run(file, out)
    assert "1 of 3 images are there already" in caplog.text
    assert first.items() <= state(out).items()
    assert len(state(out)) == 18
    assert not list(out.rglob("*.tmp"))
    assert json.loads((out / "prepared.json").read_text())["complete"]


def test_an_unfinished_one_is_broken(prepared, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for path in prepared.iterdir():
        (root / path.name).symlink_to(path)
    marker = json.loads((prepared / "prepared.json").read_text()) | {"complete": False}
    (root / "prepared.json").unlink()
    (root / "prepared.json").write_text(json.dumps(marker))
    options = (f"data.root={root}", "workers=1", "progress=false", "samples=1", f"paths.run_dir={tmp_path / 'out'}")
    result = verify(compose_config("data=nyud", *options, name="verify_data"))
    assert result.level == Level.BROKEN
    assert "run the command prepare again" in result.findings[0].text
    (root / "prepared.json").write_text("{")
    with pytest.raises(UserError, match=r"prepared\.json cannot be read"):
        verify(compose_config("data=nyud", *options, name="verify_data"))


def test_other_settings_and_other_files_need_another_folder(file, prepared, tmp_path):
    before = state(prepared)
    with pytest.raises(UserError, match=r"was prepared with other settings \(depth, crop\)"):
        run(file, prepared, "source.depth=raw", "source.crop=false")
    with pytest.raises(UserError, match=r"was prepared from another file \(nyu_depth_v2_labeled.mat\)"):
        run(write_nyu_mat(tmp_path / "other.mat", count=2), prepared)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UserError, match="is not empty and was not prepared by this command"):
        run(file, tmp_path / "mine")
    with pytest.raises(UserError, match=r"cannot be used as a folder"):
        run(file, tmp_path / "mine" / "notes.txt" / "data")
    assert state(prepared) == before


def test_a_source_of_download_is_refused(file, tmp_path):
    with pytest.raises(UserError, match="prepare takes source=nyu_mat"):
        run(file, tmp_path / "data", "source=nyud")


def test_a_full_disk_ends_in_one_line(file, tmp_path, monkeypatch):
    def full(path, _):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(prepare_module, "_write", full)
    with pytest.raises(
        UserError, match=r"0001.png cannot be written \(No space left on device\); fix this, then run the same"
    ):
        run(file, tmp_path / "data")
