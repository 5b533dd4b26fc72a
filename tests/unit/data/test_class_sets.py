import numpy as np
import pytest

from mtlsi_net.core.errors import InputError
from mtlsi_net.data.class_sets import CLASS_SETS, class_indices, class_names, class_palette
from mtlsi_net.tasks.colors import INVALID_COLOR


@pytest.mark.parametrize(("name", "count", "known"), [
    ("nyud40", 40, {0: "wall", 19: "floor mat", 21: "ceiling", 30: "person", 34: "lamp", 39: "otherprop"}),
    ("voc21", 21, {0: "background", 1: "aeroplane", 11: "diningtable", 15: "person", 20: "tvmonitor"}),
    ("parts7", 7, {0: "background", 1: "head", 4: "lower arm", 6: "lower leg"}),
])  # fmt: skip
def test_standard_sets(name, count, known):
    names = class_names(name)
    assert len(set(names)) == len(names) == count
    assert {index: names[index] for index in known} == known
    assert class_indices(list(known.values()), names) == list(known)


def test_voc_palette():
    palette = class_palette(CLASS_SETS["voc21"])
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128),
             20: (0, 64, 128)}  # fmt: skip
    assert {index: tuple(palette[index].tolist()) for index in known} == known


MANY = tuple(map(str, range(1000)))


@pytest.mark.parametrize(
    "names",
    [*CLASS_SETS.values(), MANY[:254], MANY[:256], MANY, ("background", *MANY[1:])],
    ids=lambda names: str(len(names)),
)
def test_colours_differ_and_none_is_the_invalid_one(names):
    palette = class_palette(names)
    assert palette.dtype == np.uint8
    colors = set(map(tuple, palette.tolist()))
    assert len(colors) == len(names)
    assert INVALID_COLOR not in colors
    assert ((0, 0, 0) in colors) == ("background" in names)


def test_up_to_a_thousand_classes():
    assert len(class_names(MANY)) == 1000
    for names in (MANY[:1], (*MANY, "one more")):
        with pytest.raises(InputError, match="label maps hold 2 to 1000 classes"):
            class_names(names)
