import numpy as np
import pytest
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.data_tools.class_maps import FROM_40_TO_13, official_map, read_map

LABELS = {"wall": 21, "floor": 11, "bed": 157, "chair": 5, "sofa": 83, "books": 85, "television": 172, "picture": 64,
          "person": 331, "bathtub": 136, "bag": 55, "night stand": 158}  # fmt: skip
"""Name -> label in the official file, as its own list and public listings of it have them."""


def test_labels_called_as_one_of_the_40_classes_are_of_that_class():
    to_40 = official_map(40)
    assert to_40.shape == (895,)
    assert (to_40[0], to_40.min(), to_40.max()) == (0, 0, 40)
    for name, label in LABELS.items():
        assert CLASS_SETS["nyud40"][to_40[label] - 1] == name
    counts = np.bincount(to_40[1:], minlength=41)
    assert (counts[1:38] == 1).all(), "each named class is one label; all others are in the three catch-all classes"
    assert counts[38:].sum() == 894 - 37


def test_the_13_classes_merge_the_40():
    to_13 = official_map(13)
    merged = {"wall": "wall", "door": "wall", "floor mat": "floor", "cabinet": "furniture", "desk": "table",
              "blinds": "window", "curtain": "window", "television": "tv", "person": "objects", "night stand": "furniture",
              "bookshelf": "furniture", "books": "books", "otherprop": "objects", "otherfurniture": "furniture"}  # fmt: skip
    names = CLASS_SETS["nyud40"]
    assert {name: CLASS_SETS["nyu13"][FROM_40_TO_13[names.index(name)] - 1] for name in merged} == merged
    assert set(FROM_40_TO_13) == set(range(1, 14))
    table = official_map(40)
    expected = [0 if k == 0 else FROM_40_TO_13[table[k] - 1] for k in range(895)]
    assert to_13.tolist() == expected


def test_the_labels_themselves():
    assert official_map(894).tolist() == list(range(895))


@pytest.fixture
def numbers():
    return np.random.default_rng(0).integers(0, 300, 894)


@pytest.mark.parametrize("form", ["lines", "commas", "mat", "npy"])
def test_a_users_mapping_is_read_from(tmp_path, numbers, form):
    path = tmp_path / {"lines": "map.txt", "commas": "map.csv", "mat": "map.mat", "npy": "map.npy"}[form]
    if form == "lines":
        path.write_text("# my classes\n" + "\n".join(map(str, numbers)) + "\n")
    elif form == "commas":
        path.write_text(",".join(map(str, numbers)))
    elif form == "npy":
        np.save(path, numbers)
    else:
        io.savemat(path, {"className": np.array(["a", "b"], object), "mapClass": numbers[None].astype(float)})
    assert read_map(path).tolist() == [0, *numbers.tolist()]


@pytest.mark.parametrize(("text", "words"), [
    ("1 2 3", "holds 3 numbers; give the class of each of the 894 labels"),
    ("1 " * 893 + "1.5", "holds 894 numbers, not all of them whole"),
    ("1 " * 893 + "wall", "cannot be read"),
    ("0 " * 894, "holds classes from 0 to 0"),
    ("1 " * 893 + "-1", "holds classes from -1 to 1"),
    ("1 " * 893 + "1001", "holds classes from 1 to 1001"),
])  # fmt: skip
def test_other_mappings_are_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_map(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_map(tmp_path / "none.txt")
