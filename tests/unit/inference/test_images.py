"""Any picture becomes upright RGB bytes, or one line says what is wrong with which file."""

import numpy as np
import pytest
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import read_image
from mtlsi_net.inference.files import name_results
from mtlsi_net.inference.images import as_pixels, find_images

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
GREY = RGB[..., 0]


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_is_read_as_it_is(tmp_path):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RGB))), RGB)


def test_grey_is_in_all_channels(tmp_path):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(GREY))), GREY[..., None].repeat(3, 2))


def test_one_bit_is_black_and_white(tmp_path):
    bits = GREY > 128
    found = read_image(saved(tmp_path, Image.fromarray(bits)))
    np.testing.assert_array_equal(found, 255 * bits[..., None].repeat(3, 2))


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_the_upper_byte_of_16_bits_counts(tmp_path, name):
    wide = GREY.astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(
        read_image(saved(tmp_path, Image.fromarray(wide), name)), GREY[..., None].repeat(3, 2)
    )


def test_floats_up_to_1_are_shares_of_255(tmp_path):
    path = saved(tmp_path, Image.fromarray((GREY / 255).astype(np.float32)), "x.tif")
    np.testing.assert_array_equal(read_image(path), GREY[..., None].repeat(3, 2))
    path = saved(tmp_path, Image.fromarray(GREY.astype(np.float32)), "y.tif")
    with pytest.raises(UserError, match=r"y\.tif contains floats outside \[0, 1\]"):
        read_image(path)


def test_transparent_parts_show_white(tmp_path):
    alpha = np.zeros((7, 5, 1), np.uint8)
    alpha[:3] = 255
    alpha[3] = 51
    found = read_image(saved(tmp_path, Image.fromarray(np.concatenate([RGB, alpha], 2))))
    np.testing.assert_array_equal(found[:3], RGB[:3])
    np.testing.assert_allclose(found[3], RGB[3] * 0.2 + 255 * 0.8, atol=1)
    assert (found[4:] == 255).all()


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.fromarray(GREY % 3)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    np.testing.assert_array_equal(read_image(saved(tmp_path, image)), colors[GREY % 3])
    colors[1] = 255
    np.testing.assert_array_equal(read_image(saved(tmp_path, image, transparency=1)), colors[GREY % 3])


def test_cmyk_and_animations(tmp_path):
    flat = Image.new("RGB", (4, 3), (200, 30, 60))
    found = read_image(saved(tmp_path, flat.convert("CMYK"), "x.tif"))
    np.testing.assert_allclose(found, np.full((3, 4, 3), (200, 30, 60)), atol=2)
    path = saved(tmp_path, flat, "x.gif", save_all=True, append_images=[Image.new("RGB", (4, 3))])
    np.testing.assert_allclose(read_image(path), np.full((3, 4, 3), (200, 30, 60)), atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation):
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),
        7: np.rot90(RGB, 2).transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_image(path), RGB)


def bomb(path):
    """A PNG that claims 50000 x 50000 pixels."""
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (50000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    bomb(tmp_path / "bomb.png")
    expected = {
        "empty.png": "is empty",
        "text.jpg": "is not an image",
        "cut.jpg": "cannot be read .*truncated",
        "bomb.png": "pixels",
        "none.png": "file is missing",
    }
    for name, words in expected.items():
        with pytest.raises(UserError, match=rf"{name}.*{words}"):
            read_image(tmp_path / name)
    with pytest.raises(UserError, match=r"whole\.jpg has 100x140 pixels, more than max_megapixels=0\.01"):
        read_image(tmp_path / "whole.jpg", max_megapixels=0.01)


def test_a_folder_a_glob_and_a_file(tmp_path):
    for name in ("b.PNG", "a/1.jpg", "a/notes.txt", "a/2.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["a/1.jpg", "a/2.jpeg", "b.PNG"]
    assert [path.name for path in find_images(f"{tmp_path}/a/*.jp*g")] == ["1.jpg", "2.jpeg"]
    assert [path.name for path in find_images(tmp_path / "a" / "notes.txt")] == ["notes.txt"]  # named, so tried
    (tmp_path / "void").mkdir()
    for source, words in (("void", "contains no image"), ("nowhere", "does not exist"), ("*.bmp", "no files match")):
        with pytest.raises(UserError, match=words):
            find_images(tmp_path / source)


def test_results_inside_the_folder_are_left_out_and_around_it_refused(tmp_path):
    for name in ("photos/1.jpg", "photos/out/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = tmp_path / "photos"
    assert [path.name for path in find_images(photos, without=photos / "out")] == ["1.jpg"]
    assert [path.name for path in find_images(photos, without=tmp_path / "other")] == ["1.jpg", "2.jpg"]
    for out in (photos, tmp_path):
        with pytest.raises(UserError, match="holds the input; choose another folder"):
            find_images(photos, without=out)


def test_results_of_equal_names_are_told_apart(tmp_path):
    files = [tmp_path / name for name in ("x/a/1.png", "y/a/1.png", "x/b/1.png", "2.png", "3.png", "3.jpg")]
    assert list(name_results(files).values()) == ["x_a_1", "y_a_1", "b_1", "2", "3_png", "3_jpg"]
    files = [tmp_path / name for name in ("a/1.png", "b/1.png", "a_1.png")]
    assert len(set(name_results(files).values())) == 3
    files = [tmp_path / name for name in ("a.png", "a.jpg", "a_png.tif")]
    assert list(name_results(files).values()) == ["a_png", "a_jpg", "a_png_tif"]
    files = [tmp_path / name for name in ("a.png", "a.jpg", "a_png.png", "a_png_png.png")]
    assert len(set(name_results(files).values())) == 4


def test_what_users_hold_in_python(tmp_path):
    np.testing.assert_array_equal(as_pixels(RGB), RGB)
    np.testing.assert_array_equal(as_pixels(GREY), GREY[..., None].repeat(3, 2))
    np.testing.assert_array_equal(as_pixels(Image.fromarray(RGB)), RGB)
    np.testing.assert_array_equal(as_pixels(saved(tmp_path, Image.fromarray(RGB))), RGB)
    for wrong in (RGB.astype(np.float32), RGB[None], RGB[..., :2], RGB[:0]):
        with pytest.raises(UserError, match="pass uint8 values"):
            as_pixels(wrong)
