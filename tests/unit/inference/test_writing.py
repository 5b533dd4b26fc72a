"""Files of a result, written on threads."""

import threading

import numpy as np
import pytest
import torch
from helpers.batches import tasks_of
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.drawing import LINE
from mtlsi_net.inference import writing
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.inference.writing import Wanted, Writers, write_image

SIZE = (30, 40)


@pytest.fixture
def result():
    generator = torch.Generator().manual_seed(0)
    values = {
        "semseg": torch.randint(0, 40, (1, *SIZE), generator=generator).to(torch.uint8),
        "depth": 9 * torch.rand(1, *SIZE, generator=generator),
        "normals": torch.nn.functional.normalize(torch.randn(3, *SIZE, generator=generator), dim=0),
        "boundary": torch.rand(1, *SIZE, generator=generator),
    }
    tasks = tasks_of("nyud")
    image = np.zeros((*SIZE, 3), np.uint8)
    return Result(image, {name: TaskResult(tasks[name], value) for name, value in values.items()}, "as it is")


def folders(root):
    for name in ("pictures", "sheets"):
        (root / name).mkdir(parents=True)
    return root


def test_files_hold_the_values(result, tmp_path):
    write_image(result, "a", folders(tmp_path), Wanted(True, False, False))
    found = {path.name: np.asarray(Image.open(path)) for path in tmp_path.glob("*.png")}
    values = {name: one.numpy() for name, one in result.items()}
    np.testing.assert_array_equal(found["a_semseg.png"], values["semseg"])
    np.testing.assert_array_equal(found["a_depth.png"], (1000 * values["depth"]).round().astype(np.uint16))
    np.testing.assert_array_equal(found["a_normals.png"], ((values["normals"] + 1) * 127.5).round().astype(np.uint8))
    np.testing.assert_array_equal(found["a_boundary.png"], (255 * values["boundary"]).astype(np.uint8))
    for name in ("depth", "normals"):
        np.testing.assert_array_equal(np.load(tmp_path / f"a_{name}.npy"), values[name])
    assert not list((tmp_path / "pictures").iterdir())


def test_pictures_and_sheets_show_what_the_api_shows(result, tmp_path):
    with Writers(folders(tmp_path), Wanted(False, True, True)) as writers:
        for name in "abc":
            writers.put(result, name)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == sorted(
        [f"{name}_{task}.png" for name in "abc" for task in result] + [f"{name}.png" for name in "abc"]
    )
    np.testing.assert_array_equal(Image.open(tmp_path / "sheets/c.png"), result.to_pil())
    picture = np.asarray(Image.open(tmp_path / "pictures/b_normals.png").convert("RGB"))
    enlarged = result["normals"].to_pil().resize((480, 360), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(picture[LINE : LINE + 360], enlarged)


def test_a_file_that_cannot_be_written_is_one_line(result, tmp_path):
    with (
        pytest.raises(UserError, match=r"results of a cannot be written to .*gone"),
        Writers(tmp_path / "gone", Wanted(True, False, False)) as writers,
    ):
        writers.put(result, "a")


def test_few_results_wait_to_be_written(result, tmp_path, monkeypatch):
    may_write, started = threading.Event(), []

    def slow(_, name, *__):
        started.append(name)
        may_write.wait(10)

    monkeypatch.setattr(writing, "write_image", slow)
    done = []
    with Writers(tmp_path, Wanted(True, False, False)) as writers:

        def put_all():
            for number in range(writers.count + 3):
                writers.put(result, str(number))
                done.append(number)

        thread = threading.Thread(target=put_all)
        thread.start()
        thread.join(0.5)
        assert len(done) <= writers.count
        may_write.set()
        thread.join(10)
    assert sorted(started, key=int) == [str(number) for number in range(writers.count + 3)]


def test_nothing_is_predicted_while_a_large_image_is_written(result, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "LARGE", SIZE[0] * SIZE[1] - 1)
    with Writers(tmp_path, Wanted(True, False, False)) as writers:
        writers.put(result, "a")
        assert (tmp_path / "a_boundary.png").is_file()
