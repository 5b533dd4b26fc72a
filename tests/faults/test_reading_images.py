"""Images of every kind, read alike by training, verification, prediction and Python."""

import struct
import zlib

import numpy as np
import pytest
import torch
from helpers.miniature import compose_config, write_miniature
from helpers.samples import loaded
from PIL import Image, PngImagePlugin

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.nyud import NYUDLayoutReader
from mtlsi_net.data_tools.findings import Level
from mtlsi_net.data_tools.verify import verify
from mtlsi_net.engine.build import build_data, build_tasks
from mtlsi_net.inference.images import as_pixels

SIZE = (48, 64)
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
GREY = RGB[..., 0]
STORED = {
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, 1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB, -1),
}
"""EXIF orientation -> the pixels that a file stores of ``RGB`` with it."""


def folder(root, *overrides):
    options = ("data.size=[48,64]", "tasks.semseg.classes=[a,b,c,d,e]", "data.num_workers=0", "data.augment=false")
    cfg = compose_config("data=folder", f"data.root={root}", *options, *overrides)
    return build_data(cfg, build_tasks(cfg))


def checked(root, out, *overrides):
    options = ("data.size=[48,64]", "tasks.semseg.classes=[a,b,c,d,e]", "workers=1", "progress=false")
    cfg = compose_config(
        "data=folder", f"data.root={root}", *options, f"paths.run_dir={out}", *overrides, name="verify_data"
    )
    return verify(cfg)


def trained_and_predicted(tmp_path, picture, suffix=".png", **options):
    """Return what training sees of a picture, and what prediction does, (H, W, 3)."""
    root = write_miniature(tmp_path / "data", train=1, val=1)
    (root / "photos").mkdir()
    for path in (root / "images").iterdir():
        picture.save(root / "photos" / f"{path.stem}{suffix}", **options)
    batch = loaded(folder(root, f"+data.files.image=[photos,{suffix}]").datasets["val"], 0)
    seen = (batch["image"][0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return seen, as_pixels(root / "photos" / f"0001{suffix}")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def xmp(orientation):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(
        "XML:com.adobe.xmp",
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
        f' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>',
    )
    return info


@pytest.mark.parametrize(
    ("orientation", "suffix"), [*((orientation, ".png") for orientation in STORED), (6, ".tif"), (8, ".webp")]
)
def test_a_photograph_that_its_exif_tag_turns_trains_upright(tmp_path, orientation, suffix):
    picture = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    options = {"lossless": True} if suffix == ".webp" else {}
    for seen in trained_and_predicted(tmp_path, picture, suffix, exif=exif(orientation), **options):
        np.testing.assert_array_equal(seen, RGB)


def test_a_jpeg_upside_down_trains_upright(tmp_path):
    smooth = np.linspace(0, 255, SIZE[0]).astype(np.uint8)[:, None, None].repeat(SIZE[1], 1).repeat(3, 2)
    for seen in trained_and_predicted(tmp_path, Image.fromarray(smooth[::-1]), ".jpg", exif=exif(3), quality=95):
        np.testing.assert_allclose(seen.astype(int), smooth, atol=6)


def test_an_orientation_in_xmp_counts_too(tmp_path):
    picture = Image.fromarray(np.ascontiguousarray(STORED[3]))
    for seen in trained_and_predicted(tmp_path, picture, pnginfo=xmp(3)):
        np.testing.assert_array_equal(seen, RGB)


def palette(transparent):
    picture = Image.fromarray(GREY % 3)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    if transparent:
        colors[1] = 255
    return picture, colors[GREY % 3], {"transparency": 1} if transparent else {}


def shaded(background):
    alpha = np.full(SIZE, 255, np.uint8)
    alpha[:20] = 0
    expected = RGB.copy()
    expected[:20] = background
    return Image.fromarray(np.dstack([RGB, alpha])), expected


KINDS = {
    "16-bit grey": (Image.fromarray(GREY.astype(np.uint16) * 256 + 77), np.dstack([GREY] * 3), ".png", {}),
    "16-bit grey tiff": (Image.fromarray(GREY.astype(np.uint16) * 256 + 77), np.dstack([GREY] * 3), ".tif", {}),
    "grey": (Image.fromarray(GREY), np.dstack([GREY] * 3), ".png", {}),
    "grey with alpha": (
        Image.fromarray(np.dstack([GREY, GREY * 0])),
        np.full((*SIZE, 3), 255, np.uint8),
        ".png",
        {},
    ),
    "alpha": (*shaded(255), ".png", {}),
    "a transparent colour": (Image.fromarray(RGB * 0), np.full((*SIZE, 3), 255), ".png", {"transparency": (0, 0, 0)}),
    "palette": (*palette(False)[:2], ".png", {}),
    "palette with a transparent colour": (*palette(True)[:2], ".png", palette(True)[2]),
    "1 bit": (Image.fromarray(GREY > 128), np.dstack([(GREY > 128) * 255] * 3), ".png", {}),
    "floats": (Image.fromarray((GREY / 255).astype(np.float32)), np.dstack([GREY] * 3), ".tif", {}),
    "an animation": (
        Image.fromarray(RGB),
        RGB,
        ".png",
        {"save_all": True, "append_images": [Image.fromarray(255 - RGB)], "default_image": False},
    ),
    "a tiff of two pages": (
        Image.fromarray(RGB),
        RGB,
        ".tif",
        {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_sees_what_prediction_sees_of(tmp_path, kind):
    picture, expected, suffix, options = KINDS[kind]
    for seen in trained_and_predicted(tmp_path, picture, suffix, **options):
        np.testing.assert_array_equal(seen, expected)


def test_cmyk_is_converted_alike(tmp_path):
    picture = Image.fromarray(RGB).convert("CMYK")
    seen, predicted = trained_and_predicted(tmp_path, picture, ".tif")
    np.testing.assert_array_equal(seen, predicted)
    np.testing.assert_allclose(seen.astype(int), RGB, atol=2)


REFUSED = {
    "16 bits that hold 8-bit values": (GREY.astype(np.uint16), "would be black; store it as 8 bits"),
    "numbers beyond 16 bits": (GREY.astype(np.int32) * 1000, "whole numbers from 0 to .*; store 8 or 16 bits"),
    "floats up to 255": (GREY.astype(np.float32), r"floats outside \[0, 1\]"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_training_and_verification_refuse_images_that_would_be_black_or_white(tmp_path, kind):
    values, words = REFUSED[kind]
    root = write_miniature(tmp_path / "data")
    for path in list((root / "images").iterdir()):
        Image.fromarray(values).save(path.with_suffix(".tif"))
        path.unlink()
    with pytest.raises(UserError, match=words):
        loaded(folder(root, "+data.files.image=[images,.tif]").datasets["val"], 0)
    result = checked(root, tmp_path / "out", "+data.files.image=[images,.tif]")
    assert result.level == Level.BROKEN


def test_labels_of_a_turned_photograph_are_checked_against_its_upright_size(tmp_path):
    root = write_miniature(tmp_path / "data")
    image = Image.open(root / "images" / "0005.png")
    image.transpose(Image.Transpose.ROTATE_90).save(root / "images" / "0005.png", exif=exif(6))
    upright = loaded(folder(root).datasets["val"], 0)
    assert upright["valid"].all()
    assert checked(root, tmp_path / "out").level == Level.DIFFERS

    image.save(root / "images" / "0005.png", exif=exif(6))
    words = r"label of 48x64 pixels for an image of 64x48.*0005.png has an EXIF orientation \(6\).*turn the label"
    with pytest.raises(UserError, match=words):
        loaded(folder(root).datasets["val"], 0)
    result = checked(root, tmp_path / "out")
    assert result.level == Level.BROKEN
    assert "EXIF orientation (6)" in result.findings[0].text


def test_verification_counts_turned_photographs(tmp_path):
    root = write_miniature(tmp_path / "data")
    image = Image.open(root / "images" / "0005.png")
    image.save(root / "images" / "0005.png", exif=exif(3))
    notes = [finding.text for finding in checked(root, tmp_path / "out").findings if finding.level == Level.NOTE]
    assert any(text.startswith("1 images have an EXIF orientation and are turned upright (0005)") for text in notes)


def test_a_label_with_an_orientation_of_its_own_is_refused(tmp_path):
    root = write_miniature(tmp_path / "data")
    path = root / "segmentation" / "0005.png"
    Image.open(path).save(path, exif=exif(3))
    with pytest.raises(UserError, match=r"0005.png: the label has an EXIF orientation \(3\).*store it upright"):
        loaded(folder(root).datasets["val"], 0)


def test_damaged_tags_mean_upright(tmp_path):
    for seen in trained_and_predicted(tmp_path, Image.fromarray(RGB), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\1"):
        np.testing.assert_array_equal(seen, RGB)


def test_arrays_in_python_follow_the_rules_of_files():
    alpha = np.zeros(SIZE, np.uint8)
    assert (as_pixels(np.dstack([RGB, alpha])) == 255).all()
    np.testing.assert_array_equal(as_pixels(GREY.astype(np.uint16) * 256), np.dstack([GREY] * 3))


def test_images_decoded_by_an_earlier_version_are_decoded_anew(tmp_path, monkeypatch):
    from mtlsi_net.data import cache

    root, decoded = write_miniature(tmp_path / "data"), f"data.decoded_dir={tmp_path}/decoded"
    monkeypatch.setattr(cache, "VERSION", 2)  # of the version that left EXIF orientations out
    monkeypatch.setattr("mtlsi_net.data.reader.read_image", lambda _: np.zeros((*SIZE, 3), np.uint8), raising=False)
    monkeypatch.setattr("mtlsi_net.data.reader.read_pixels", lambda *_: np.zeros((*SIZE, 3), np.uint8), raising=False)
    assert not loaded(folder(root, decoded).datasets["val"], 0)["image"].any()
    monkeypatch.undo()
    assert loaded(folder(root, decoded).datasets["val"], 0)["image"].any()


def write_header(path, side):
    """Write a grey PNG that claims ``side`` x ``side`` pixels, of which it holds none."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    length, checksum = struct.pack(">I", 13), struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + length + head + checksum + struct.pack(">I", 99) + b"IDAT")


@pytest.mark.parametrize(("side", "words"), {13500: "cannot be read as an image", 14200: "14200x14200 pixels"}.items())
@pytest.mark.parametrize("kind", ["images", "segmentation"])
def test_files_of_very_many_pixels_are_broken_and_no_crash(tmp_path, side, words, kind):
    """Pillow has an error of another kind from 179 megapixels on; our limit is 200."""
    root = write_miniature(tmp_path / "data")
    write_header(root / kind / "0002.png", side)
    result = checked(root, tmp_path / "out")
    assert result.level == Level.BROKEN
    assert any(f"{kind}/0002.png" in found.text and words in found.text for found in result.findings)
    with pytest.raises(UserError, match=words):
        loaded(folder(root).datasets["train"], 1)


def test_a_label_beside_an_image_of_very_many_pixels_is_called_of_another_size(tmp_path):
    write_header(tmp_path / "a.png", 13500)
    reader = NYUDLayoutReader(tmp_path, {}, files={"image": [".", ".png"]})
    assert reader.image_size("a") == (13500, 13500)
    error = reader._wrong_size(tmp_path / "b.png", "a", (48, 64), (13500, 13500))
    assert "label of 48x64 pixels for an image of 13500x13500" in str(error)
