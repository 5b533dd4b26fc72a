"""Every kind of picture gives the pixels that Pillow sees, whichever library reads it; damaged ones give an error."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.files import read_pixels, read_target

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GRAY = RGB[..., 0]


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def dark():
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (90910).to_bytes(4, "big"))
    return info


def palette():
    picture = Image.fromarray(GRAY, mode="P")
    picture.putpalette(RGB.tobytes()[:768])
    return picture


@pytest.mark.parametrize(
    ("mode", "picture", "options"),
    [
        ("RGB", Image.fromarray(RGB), {}),
        ("RGB", Image.fromarray(RGB), {"transparency": tuple(map(int, RGB[0, 0]))}),
        ("RGB", Image.fromarray(RGB), {"pnginfo": dark()}),
        ("RGB", Image.fromarray(RGB), {"format": "JPEG"}),
        ("RGB", Image.fromarray(np.dstack([RGB, GRAY])), {}),
        ("RGB", palette(), {}),
        ("L", Image.fromarray(GRAY), {}),
        ("L", Image.fromarray(GRAY), {"transparency": 3}),
        ("L", Image.fromarray(np.dstack([GRAY] * 3)), {}),
        ("L", Image.fromarray(GRAY > 128), {}),
        ("L", palette(), {}),
    ],
)
def test_pixels_are_pillows(tmp_path, mode, picture, options):
    path = tmp_path / "a.png"
    picture.save(path, **{"format": "PNG", **options})
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB") if mode == "RGB" else stored)
    expected = expected[..., 0] if mode == "L" and expected.ndim == 3 else expected
    pixels = read_pixels(path, mode)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("array", [RGB, np.dstack([RGB, GRAY]), RGB[..., 0].astype(np.uint16) + 1])
def test_other_pictures_are_no_label_maps(tmp_path, array):
    Image.fromarray(array).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"a.png: expected an 8-bit single-channel PNG, found .*; store one byte per pixel"
    ):
        read_pixels(tmp_path / "a.png", "L")


@pytest.mark.parametrize(("mode", "array"), [("RGB", RGB), ("L", GRAY)])
@pytest.mark.parametrize("seed", range(20))
def test_damaged_pictures_are_named(tmp_path, mode, array, seed):
    """Cut off anywhere, or with one bit turned in what is stored of the pixels."""
    path, rng = tmp_path / "a.png", np.random.default_rng(seed)
    Image.fromarray(array).save(path)
    content = bytearray(path.read_bytes())
    if seed % 2:
        content = content[: rng.integers(len(content) - 12)]
    else:
        content[rng.integers(60, len(content) - 20)] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.png: cannot be read as an image .*; replace the file from its source"):
        read_pixels(path, mode)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: file is missing; restore it"):
        read_pixels(tmp_path / "gone.png", "RGB")


METRES = TargetSpec(1, "scalar")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16])
def test_depth_of_any_number_type_is_read(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.array([[0, 1], [2, 3]], dtype))
    depth = read_target(tmp_path / "a.npy", METRES)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth[..., 0], [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 2, 2), np.float32),
            r"expected a 2-D array, .* shape \(2, 2, 2\) .*; store one number per pixel",
        ),
        (np.zeros(4, np.float32), "expected a 2-D array"),
        (np.array([["a"]]), "expected a 2-D array of metres, found shape .* of <U1"),
        (np.zeros((2, 2), bool), "of bool"),
        (np.array([[np.inf, 1]]), "1 depth values are NaN, infinite or negative; store metres"),
        (np.array([[np.nan, -1]]), "2 depth values"),
        (np.array([[None]]), "cannot be read as .npy .*; replace the file"),
    ],
)
def test_what_is_no_depth_map_is_named(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=f"a.npy: .*{message}"):
        read_target(tmp_path / "a.npy", METRES)


def test_an_empty_or_foreign_depth_file_is_named(tmp_path):
    for content in (b"", b"no numpy file", b"\x93NUMPY\x01\x00"):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"a.npy: cannot be read as .npy"):
            read_target(tmp_path / "a.npy", METRES)
    with pytest.raises(UserError, match=r"gone.npy: file is missing"):
        read_target(tmp_path / "gone.npy", METRES)
