"""Views and their average, against networks whose answers are known at every pixel."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.inference import views
from mtlsi_net.inference.tta import predict_tta
from mtlsi_net.inference.views import Viewing
from mtlsi_net.inference.windows import window_starts
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.depth import DepthTask
from mtlsi_net.tasks.normals import NormalsTask
from mtlsi_net.tasks.semseg import SemsegTask

TASKS = {
    "semseg": SemsegTask(["a", "b", "c"]),
    "depth": DepthTask(),
    "normals": NormalsTask(),
    "boundary": BoundaryTask(),
}
WITHOUT_SCALE = {name: task for name, task in TASKS.items() if name != "depth"}
MIRROR = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)


class Pixelwise:
    """Answers from each pixel's colour alone: any way of viewing must give the same."""

    size, scale, pad_color, evaluated = (24, 32), 1.0, (0.5, 0.5, 0.5), None
    tasks = TASKS

    def __init__(self):
        self.seen = []

    def raw(self, image, valid):  # noqa: ARG002
        self.seen.append(tuple(image.shape))
        red, green, blue = image.unbind(1)
        return {
            "semseg": torch.stack([red, green, blue], 1),
            "depth": 1 + red[:, None],
            "normals": torch.stack([torch.zeros_like(red), green + 0.1, blue + 0.1], 1),
            "boundary": 4 * blue[:, None] - 2,
        }


class Sideways(Pixelwise):
    """Normals point to the right of the view, wherever that is: mirrored views must not cancel them."""

    def raw(self, image, valid):
        outputs = super().raw(image, valid)
        return outputs | {"normals": torch.tensor([3.0, 0, 4]).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[2:])}


def smooth(height, width, seed=0):
    noise = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    image = F.interpolate(noise, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return (255 * image[0].permute(1, 2, 0)).round().byte().numpy()


def plain(image):
    network = Pixelwise()
    raw = network.raw(torch.from_numpy(image).permute(2, 0, 1)[None] / 255, None)
    return {name: TASKS[name].postprocess(y)[0] for name, y in raw.items()}


def assert_near(values, expected, atol):
    for name, value in values.items():
        assert value.shape == expected[name].shape
        if name == "semseg":
            assert (value == expected[name]).float().mean() > 0.97
        else:
            torch.testing.assert_close(value, expected[name], rtol=0, atol=atol)


@pytest.mark.parametrize("mode", ["whole", "sliding"])
@pytest.mark.parametrize("size", [(24, 32), (20, 31), (1, 1), (7, 32)])
def test_an_image_within_the_training_size_goes_through_once(mode, size):
    network, image = Pixelwise(), smooth(*size)
    (values,) = predict_tta(network, image[None], Viewing(mode))
    assert network.seen == [(1, 3, 24, 32)]
    assert_near(values, plain(image), atol=1e-6)
    assert values["semseg"].dtype == torch.uint8
    assert (values["semseg"] == plain(image)["semseg"]).all()


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"scales": (0.5, 1.0, 1.5), "flip": True}, {"scales": (2.0,)}])
@pytest.mark.parametrize("mode", ["whole", "sliding"])
@pytest.mark.parametrize("size", [(24, 32), (61, 90), (30, 20), (40, 41)])
def test_views_agree_where_answers_depend_on_pixels_alone(mode, size, options):
    class Unscaled(Pixelwise):
        tasks = WITHOUT_SCALE

        def raw(self, image, valid):
            return {name: y for name, y in super().raw(image, valid).items() if name != "depth"}

    image = smooth(*size)
    (values,) = predict_tta(Unscaled(), image[None], Viewing(mode, batch_size=2, **options))
    assert_near(values, {k: v for k, v in plain(image).items() if k != "depth"}, atol=0.12)


def test_windows_that_agree_with_the_whole_view_change_nothing():
    image = smooth(61, 90)
    (values,) = predict_tta(Pixelwise(), image[None], Viewing("sliding", overlap=0.4))
    assert_near(values, plain(image), atol=0.02)


def test_normals_of_mirrored_views_are_turned_back():
    network, image = Sideways(), smooth(24, 32)
    (values,) = predict_tta(network, image[None], Viewing(flip=True))
    expected = torch.tensor([0.6, 0, 0.8]).view(3, 1, 1)
    mirrored = expected * MIRROR
    torch.testing.assert_close(values["normals"], F.normalize(expected + mirrored, dim=0).expand(3, 24, 32))
    assert len(network.seen) == 2


def test_views_weigh_normals_alike_whatever_their_length():
    class Turning(Pixelwise):
        def raw(self, image, valid):
            first = len(self.seen) == 0
            outputs = super().raw(image, valid)
            vector = [100.0, 0, 0] if first else [0, 0, 0.01]
            return outputs | {"normals": torch.tensor(vector).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[2:])}

    (values,) = predict_tta(Turning(), smooth(24, 32)[None], Viewing(scales=(1.0, 1.5)))
    middle = values["normals"][:, 12, 20]
    assert middle[0] < 0.9  # one view of two, not 10,000 times the other


class AlwaysTwoMetres(Pixelwise):
    """Sees everything at two metres."""

    def raw(self, image, valid):
        return super().raw(image, valid) | {"depth": torch.full_like(image[:, :1], 2.0)}


@pytest.mark.parametrize(
    ("size", "options", "metres"),
    [
        ((24, 32), {}, 2),
        ((24, 32), {"scales": (2.0,)}, 4),  # enlarged twice, things seem twice as near
        ((24, 32), {"scales": (0.5,)}, 1),
        ((24, 32), {"scales": (1.0, 2.0)}, 3),
        ((96, 128), {}, 2),  # seen whole
        ((96, 128), {"mode": "sliding"}, 2),  # windows have no distance of their own
    ],
)
def test_depth_follows_the_zoom(size, options, metres):
    (values,) = predict_tta(AlwaysTwoMetres(), smooth(*size)[None], Viewing(**options))
    torch.testing.assert_close(values["depth"], torch.full((1, *size), float(metres)))


def test_training_images_that_were_reduced_are_reduced_here_too():
    class Half(AlwaysTwoMetres):
        scale = 0.5

    for mode in ("whole", "sliding"):
        network = Half()
        (values,) = predict_tta(network, smooth(40, 60)[None], Viewing(mode))
        assert network.seen == [(1, 3, 24, 32)]
        torch.testing.assert_close(values["depth"], torch.full((1, 40, 60), 2.0))


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 9, 4), (1, 1, 1)])
@pytest.mark.parametrize("size", [(11, 13), (5, 7), (300, 2), (4, 50)])
def test_bands_are_rows_of_torchs_interpolation(shape, size):
    x = torch.rand(shape, dtype=torch.float64)
    whole = F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
    for rows, columns in (
        (slice(0, size[0]), slice(0, size[1])),
        (slice(size[0] // 2, size[0]), slice(1, size[1] - 1)),
    ):
        torch.testing.assert_close(views.region_of(x, size, rows, columns), whole[:, rows, columns], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 10, 31, 32, 33, 64, 100, 333])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.9])
def test_windows_cover_everything_and_overlap_enough(length, overlap):
    side = min(32, length)
    starts = window_starts(length, side, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - side
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= math.ceil(side * (1 - overlap)) + 1).all()


def test_memory_of_windows_does_not_grow_with_the_image():
    held = []

    class Watching(Pixelwise):
        def raw(self, image, valid):
            held.append(image.shape[0])
            return super().raw(image, valid)

    predict_tta(Watching(), smooth(400, 70)[None], Viewing("sliding", batch_size=3))
    assert max(held) <= 3
    rows = [call for call in held if call]
    assert len(rows) >= 400 // 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "half"}, "mode=half"),
        ({"scales": ()}, "scales="),
        ({"scales": (0.0,)}, "scales="),
        ({"overlap": 1.0}, "overlap=1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_views_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        Viewing(**options)


def test_equal_images_in_one_batch_are_as_if_alone():
    images = np.stack([smooth(61, 90, seed) for seed in range(3)])
    together = predict_tta(Pixelwise(), images, Viewing(flip=True))
    for image, values in zip(images, together, strict=True):
        (alone,) = predict_tta(Pixelwise(), image[None], Viewing(flip=True))
        for name, value in values.items():
            torch.testing.assert_close(value, alone[name])
