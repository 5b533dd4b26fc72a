import numpy as np
import pytest

from mtlsi_net.data_tools.segment_boundaries import WIDEST_GAP, segment_boundaries


def brute_force(segments):
    """Return the boundaries pixel by pixel: nearest segments by all distances, then neighbours."""
    height, width = segments.shape
    labelled = np.argwhere(segments > 0)
    closed = segments.copy()
    for y, x in np.argwhere(segments == 0):
        distances = np.sqrt(((labelled - (y, x)) ** 2).sum(1))
        if distances.min() <= WIDEST_GAP / 2:
            near = {int(segments[tuple(place)]) for place in labelled[distances == distances.min()]}
            closed[y, x] = -1 if len(near) > 1 else near.pop()  # at equal distances either may win
    found = np.zeros(segments.shape, np.uint8)
    ambiguous = np.zeros(segments.shape, bool)
    for y in range(height):
        for x in range(width):
            for other in ((y, x + 1), (y + 1, x)):
                if other[0] < height and other[1] < width:
                    one, two = closed[y, x], closed[other]
                    ambiguous[y, x] |= -1 in (one, two)
                    if one != two and one > 0 and two > 0:
                        found[y, x] = 255
    return found, ambiguous


@pytest.mark.parametrize("seed", range(4))
def test_boundaries_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    segments = rng.integers(1, 5, (6, 7)).repeat(6, 0).repeat(5, 1)
    segments[rng.random(segments.shape) < 0.15] = 0
    segments[5:32, 4:22] = 0  # an area wider than the gaps that are closed
    expected, ambiguous = brute_force(segments)
    found = segment_boundaries(segments)
    assert found.dtype == np.uint8
    assert (found == expected)[~ambiguous].all()
    assert ambiguous.mean() < 0.4


def test_a_boundary_is_one_pixel_wide_and_a_strip_is_closed_in_its_middle():
    segments = np.ones((20, 40), int)
    segments[:, 20:] = 2
    assert set(map(tuple, np.argwhere(segment_boundaries(segments)))) == {(y, 19) for y in range(20)}
    segments[:, 18:23] = 0  # pixels 18..22: 18 and 19 join the left, 21 and 22 the right, 20 one of them
    columns = {int(x) for _, x in np.argwhere(segment_boundaries(segments))}
    assert columns <= {19, 20}
    assert (segment_boundaries(segments) > 0).any(axis=1).all()


def test_no_boundary_around_what_is_unlabelled():
    segments = np.ones((60, 60), int)
    segments[10:50, 10:50] = 0
    assert not segment_boundaries(segments).any()
    assert not segment_boundaries(np.zeros((5, 5), int)).any()
