import numpy as np
import pytest
import torch
from helpers.clips import write_clip
from PIL import Image

import mtlsi_net
from mtlsi_net.core.errors import UserError
from mtlsi_net.inference.video import Video


@pytest.fixture(scope="module")
def model(trained):
    return mtlsi_net.load(trained.run.root, device="cpu")


@pytest.fixture
def photos(tmp_path):
    """Write two images of different sizes into a folder and its subfolder."""
    (tmp_path / "more").mkdir()
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.png", tmp_path / "more" / "b.png"]
    for path, size in zip(paths, [(48, 64), (40, 50)], strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def same(one, other):
    return all(torch.equal(one[name].value, other[name].value) for name in one.keys() | other.keys())


def test_a_list_gives_a_list(model, photos):
    results = model.predict([photos[0], Image.open(photos[1])])
    assert [result.source for result in results] == [photos[0], None]
    assert all(same(result, model.predict(path)) for result, path in zip(results, photos, strict=True))
    assert results[1]["depth"].numpy().shape == (40, 50)
    assert model.predict([]) == []


@pytest.mark.parametrize("source", ["", "**/*.png"], ids=["folder", "glob"])
def test_a_folder_or_glob_gives_results_one_by_one(model, photos, source):
    results = list(model.predict_each(str(photos[0].parent / source)))
    assert [result.source for result in results] == photos
    assert same(results[1], model.predict(photos[1], flip=False))


def test_images_are_asked_for_one_by_one(model, photos):
    asked = []

    def images():
        for path in photos:
            asked.append(path)
            yield path

    results = model.predict_each(images())
    next(results)
    assert asked == photos[:1]


def test_a_video_gives_its_frames(model, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    results = list(model.predict_each(clip))
    frames = list(Video(clip).frames())
    assert len(results) == 3
    assert all(same(result, model.predict(frame)) for result, frame in zip(results, frames, strict=True))


@pytest.mark.parametrize("make", [lambda folder: folder, lambda folder: write_clip(folder / "clip.mp4")])
def test_predict_names_what_takes_folders_and_videos(model, tmp_path, make):
    with pytest.raises(UserError, match="is a folder or video; use predict_each"):
        model.predict(make(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "does not exist"), ([[1, 2]], "image is a list; pass np.asarray"), ([None], "image is None")],
)
def test_what_is_no_image_is_one_line(model, source, message):
    with pytest.raises(UserError, match=message):
        list(model.predict_each(source))
