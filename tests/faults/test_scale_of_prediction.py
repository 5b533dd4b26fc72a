"""Scale of prediction: metres, edges and scores of images that are larger or smaller than those a network learnt from."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from PIL import Image

import mtlsi_net
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.score import score
from mtlsi_net.engine.train import train
from mtlsi_net.inference import demo
from mtlsi_net.inference.model import Model
from mtlsi_net.inference.predict import predict
from mtlsi_net.inference.tta import predict_tta
from mtlsi_net.inference.views import Viewing
from mtlsi_net.tasks.depth import DepthTask
from mtlsi_net.tasks.semseg import SemsegTask

LARGE = (150, 200)
CROP = (48, 64)


# -- metres -----------------------------------------------------------------------------------------------------------


class Eye:
    """Depth from brightness, as if the mean of whatever is seen were two metres: it knows nothing of distances.

    Classes are told by the place in the view, as by a network that needs an overview.
    """

    size, scale, pad_color = CROP, 1.0, (0.5, 0.5, 0.5)
    evaluated = ImageSizes(CROP, CROP, CROP)
    tasks: ClassVar = {"depth": DepthTask(), "semseg": SemsegTask(["left", "right"])}

    def raw(self, image, valid):  # noqa: ARG002
        grey = image.mean(1, keepdim=True) + 0.1
        right = torch.linspace(-1, 1, image.shape[-1]).expand(*grey.shape[:3], -1)
        return {"depth": 2 * grey / grey.mean((2, 3), keepdim=True), "semseg": torch.cat([-right, right], 1)}


def scene(height, width, step=True):
    """Return an image and its depth: a bright wall behind a dark one, both slanting."""
    rows, columns = np.mgrid[:height, :width]
    depth = 1 + rows / height + columns / width + step * 1.5 * (columns > 0.55 * width)
    grey = (255 * depth / 5).round().clip(0, 255).astype(np.uint8)
    return grey[..., None].repeat(3, 2), depth.astype(np.float32)


def depth_of(image, **viewing):
    return predict_tta(Eye(), image[None], Viewing(**viewing))[0]["depth"][0].numpy()


def rmse(values, depth):
    """Return the error but for one scale, which the eye cannot know."""
    return float(np.sqrt(np.square(values / values.mean() - depth / depth.mean()).mean()))


@pytest.mark.parametrize("zoom", [2, 4, 7])
def test_windows_of_an_enlarged_image_measure_as_the_whole_view_does(zoom):
    image, depth = scene(zoom * CROP[0], zoom * CROP[1])
    whole, windows = depth_of(image), depth_of(image, mode="sliding")
    assert np.median(windows) == pytest.approx(np.median(whole), rel=0.02)
    assert rmse(windows, depth) <= 1.05 * rmse(whole, depth)


def steepest(values):
    return np.abs(np.diff(np.log(values), axis=1)).max(1).mean()


def test_windows_keep_depth_edges_sharp():
    image, depth = scene(4 * CROP[0], 4 * CROP[1])
    whole, windows = depth_of(image), depth_of(image, mode="sliding")
    assert steepest(windows) > 2 * steepest(whole)
    at = int(0.55 * depth.shape[1])
    assert abs(np.abs(np.diff(np.log(windows), axis=1)).argmax(1) - at).max() <= 1


def test_no_seam_shows_where_windows_end():
    image, depth = scene(4 * CROP[0], 4 * CROP[1], step=False)
    change = np.abs(np.diff(np.log(depth_of(image, mode="sliding")) - np.log(depth), axis=1))
    left = np.linspace(0, 3 * CROP[1], 5).round().astype(int)  # of windows that overlap by a quarter at least
    borders = np.unique(np.concatenate([left[1:] - 1, left[:-1] + CROP[1] - 1]))
    inside = np.setdiff1d(np.arange(change.shape[1]), borders)
    assert change[:, borders].mean() <= 1.5 * change[:, inside].mean() + 1e-4
    assert change.max() < 0.02


@pytest.mark.parametrize("mode", ["whole", "sliding"])
@pytest.mark.parametrize("size", [(24, 32), (96, 128), (40, 400), (400, 40), (144, 64), (192, 256)])
def test_metres_do_not_depend_on_the_number_of_pixels(mode, size):
    image, _ = scene(*size)
    larger = np.asarray(Image.fromarray(image).resize((3 * size[1], 3 * size[0]), Image.Resampling.BILINEAR))
    small, large = depth_of(image, mode=mode), depth_of(larger, mode=mode)
    assert np.median(large) == pytest.approx(np.median(small), rel=0.05)


def test_a_long_panorama_has_the_metres_of_its_whole_view():
    image, _ = scene(100, 1200)
    whole, windows = depth_of(image), depth_of(image, mode="sliding")
    assert np.median(windows) == pytest.approx(np.median(whole), rel=0.05)
    assert np.abs(np.log(windows / whole)).max() < 0.7


def test_windows_that_lack_the_overview_do_not_decide_what_is_seen():
    image, _ = scene(4 * CROP[0], 4 * CROP[1])
    classes = predict_tta(Eye(), image[None], Viewing("sliding"))[0]["semseg"][0]
    expected = (torch.arange(4 * CROP[1]) >= 2 * CROP[1]).expand(4 * CROP[0], -1)
    assert (classes == expected).float().mean() > 0.97


def test_an_image_is_seen_at_the_scale_of_the_evaluated_ones():
    seen = []

    class Watching(Eye):
        evaluated = ImageSizes((90, 120), (90, 120), (100, 120))

        def raw(self, image, valid):
            seen.append(tuple(int(side) for side in (valid[0, 0].any(1).sum(), valid[0, 0].any(0).sum())))
            return super().raw(image, valid)

    for size in ((90, 120), (120, 90), (93, 122), (360, 480), (45, 60), (900, 1200)):
        predict_tta(Watching(), scene(*size)[0][None], Viewing())
    assert seen == [(90, 120), (120, 90), (93, 122), (90, 120), (90, 120), (90, 120)]
    seen.clear()
    predict_tta(Watching(), scene(360, 480)[0][None], Viewing(size="original"))
    predict_tta(Watching(), scene(360, 480)[0][None], Viewing(size=(180, 240)))
    assert seen == [(360, 480), (180, 240)]


# -- scores -----------------------------------------------------------------------------------------------------------


class Trained:
    """A run on images that are larger than its crops."""

    def __init__(self, folder):
        self.data = write_miniature(folder / "data", size=LARGE)
        options = short_overrides(self.data, folder / "run", steps=12)
        self.run = train(compose_config(*options, f"data.size=[{CROP[0]},{CROP[1]}]", "data.augment=true")).folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("scale"))


def run(source, images, out, *more):
    settings = (f"ckpt={source}", f"input='{images}'", f"out={out}", "progress=false", "device=cpu", "pictures=false")
    return predict(compose_config(*settings, "sheets=false", *more, name="predict"))


def scores(folder):
    return json.loads(folder.metrics.read_text())["last"]["val"]


def test_a_prediction_scores_as_evaluate_does_where_images_exceed_the_crops(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    quiet = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.num_workers=0")
    done = evaluate(
        compose_config(f"ckpt={trained.run.last}", f"paths.run_dir={tmp_path / 'e'}", *quiet, name="evaluate")
    )
    run(trained.run.root, trained.data / "images", tmp_path / "pred")
    assert "images: 6 processed as in evaluation (settings: size=" in caplog.text
    assert json.loads((tmp_path / "pred" / "run.json").read_text())["seen"] == {"processed as in evaluation": 6}
    settings = ("data=nyud", f"data.root={trained.data}", f"pred={tmp_path / 'pred'}", "progress=false")
    scored = score(compose_config(*settings, f"paths.run_dir={tmp_path / 's'}", name="score"))
    for task, values in scores(done.folder).items():
        for key, value in values.items():
            assert scores(scored.folder)[task][key] == pytest.approx(value, abs=5e-3 if task == "boundary" else 1e-5)


def test_a_checkpoint_and_a_saved_model_record_the_size_that_evaluate_scored(trained, tmp_path):
    model = mtlsi_net.load(trained.run.root, device="cpu")
    assert model.evaluated == ImageSizes(LARGE, LARGE, LARGE)
    model.save_pretrained(tmp_path)
    assert mtlsi_net.load(tmp_path, device="cpu").evaluated == model.evaluated
    assert Model.from_pretrained(tmp_path).evaluated == model.evaluated
    assert mtlsi_net.load(trained.run.checkpoints / "best_on_test.ckpt", device="cpu").evaluated == model.evaluated


def test_the_command_says_what_it_did_with_how_many_images(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "in").mkdir()
    for name, factor in {"a": 1, "b": 3, "c": 3, "d": 0.25}.items():
        size = (round(LARGE[1] * factor), round(LARGE[0] * factor))
        Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "in" / f"{name}.png")
    run(trained.run.root, tmp_path / "in", tmp_path / "out", "mode=sliding")
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("images: ")]
    for part in (
        "1 processed as in evaluation",
        "2 reduced to about 150x200 pixels, and in windows",
        "1 enlarged to about 150x200 pixels",
        "size=",
    ):
        assert part in line


def test_python_and_the_demo_page_do_the_same(trained, tmp_path):
    image = Image.open(trained.data / "images" / "0005.png")
    model = mtlsi_net.load(trained.run.root, device="cpu")
    image.resize((3 * image.width, 3 * image.height)).save(tmp_path / "x.png")
    assert model.predict(image).seen == "processed as in evaluation"
    assert model.predict(tmp_path / "x.png").seen == "reduced to about 150x200 pixels"
    shown = demo._predict(model, str(tmp_path / "x.png"), "whole", tmp_path, flip=False)
    assert shown[1] == "Image of 450x600 pixels, reduced to about 150x200 pixels."


def test_a_checkpoint_without_the_record_reduces_to_its_crops_and_says_so_once(trained, tmp_path, caplog):
    checkpoint = torch.load(trained.run.last, weights_only=True)
    del checkpoint["validated_on"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    model = mtlsi_net.load(tmp_path / "old.ckpt", device="cpu")
    image = np.asarray(Image.open(trained.data / "images" / "0005.png"))
    assert model.predict(image[: CROP[0], : CROP[1]]).seen == "processed as in evaluation"
    assert "does not record" not in caplog.text
    for _ in range(2):
        assert model.predict(image).seen == "reduced to fit into the training size 48x64"
    assert caplog.text.count("does not record") == 1
    original = model.predict(image, size="original")
    expected = mtlsi_net.load(trained.run.root, device="cpu").predict(image)
    torch.testing.assert_close(original["depth"].value, expected["depth"].value, rtol=0, atol=0)


@pytest.mark.slow
def test_windows_on_a_real_photograph_measure_as_the_whole_view_does(trained, real_data):
    model = mtlsi_net.load(trained.run.root, device="cpu")
    image = Image.open(next((real_data / "NYUDv2_mini" / "images").glob("*.png"))).convert("RGB")
    whole, windows = (np.median(model.predict(image, mode=mode)["depth"].numpy()) for mode in ("whole", "sliding"))
    assert windows == pytest.approx(whole, rel=0.1)
