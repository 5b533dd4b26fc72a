"""Lists of ids as people write them."""

import pytest

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.nyud import NYUDLayoutReader


@pytest.fixture
def root(tmp_path):
    for name in ("0001", "living room 2", "a/b", "no.dots", "x.png"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "gt_sets").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"0001\nliving room 2\n", ["0001", "living room 2"]),
        (b"\xef\xbb\xbf0001\r\nno.dots\r\n\r\n", ["0001", "no.dots"]),
        ("0001\nno.dots".encode("utf-16"), ["0001", "no.dots"]),
        (b"0001.png\nimages/living room 2.png\nx.png\n", ["0001", "living room 2", "x.png"]),
        (b"a/b\n", ["a/b"]),
        (b"a\\b.png\r\n./0001\n", ["a/b", "0001"]),
        (b"0001 no.dots\n", ["0001", "no.dots"]),
        (b"  0001  \nabsent one\n", ["0001", "absent one"]),
    ],
    ids=["spaces", "mark and CRLF", "UTF-16", "suffixes", "sub-folder", "backslash", "several a line", "absent"],
)
def test_ids_are_those_of_the_files(root, content, ids):
    (root / "gt_sets" / "train.txt").write_bytes(content)
    assert NYUDLayoutReader(root, {}).ids("train") == ids


def test_whole_paths_of_images_are_ids(root, tmp_path_factory):
    """As ``find $PWD/images > train.txt`` writes them, also where the folder was reached by a link."""
    linked = tmp_path_factory.mktemp("links") / "data"
    linked.symlink_to(root)
    for place in (root, linked):
        lines = [f"{place}/images/{name}.png" for name in ("0001", "living room 2", "a/b")]
        (root / "gt_sets" / "train.txt").write_text("\n".join(lines))
        assert NYUDLayoutReader(place, {}).ids("train") == ["0001", "living room 2", "a/b"]


@pytest.mark.parametrize("form", ["{other}/0.png", "../images/0001.png", "a/../0001.png", "0001 ../images/x"])
def test_images_elsewhere_are_refused_since_their_labels_would_be_the_images(root, tmp_path_factory, form):
    other = tmp_path_factory.mktemp("other")
    (other / "0.png").touch()
    (root / "gt_sets" / "train.txt").write_text(form.format(other=other))
    with pytest.raises(
        UserError, match=r"train.txt names files outside .*images \(.*; write ids as the images are called"
    ):
        NYUDLayoutReader(root, {}).ids("train")
