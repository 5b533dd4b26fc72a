import re

import pytest

from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.padding import Canvas


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((512, 512), "512x512 are padded to 672x672, 72 % more pixels: .* multiples of 224; .* is 448x448"),
        ((60, 100), "60x100 are padded to 224x224, .* is 224x224"),
        ((448, 448), None),
        ((448, 660), None),  # 2 %
    ],
)
def test_much_padding_is_told_with_a_size_that_needs_none(caplog, size, told):
    canvas = Canvas((0.5,) * 3, (0.5,) * 3, [FeatureSpec(8, 14)] * 4, stride=32)
    canvas.check_size(size)
    assert [bool(re.search(told or "", line)) for line in caplog.messages] == [True] * (told is not None)
