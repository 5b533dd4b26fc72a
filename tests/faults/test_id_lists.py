"""Lists of ids as people write them."""

import pytest

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
