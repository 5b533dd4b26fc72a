import numpy as np
import pytest
from skimage import morphology

from mtlsi_net.metrics.boundary.thinning import differences, set_bits, thin


@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_differences_are_the_bits_that_changed(density):
    rng = np.random.default_rng(0)
    masks = rng.random((2, 5 * 64)) < density
    words = [np.zeros(5, np.uint64) for _ in masks]
    for mask, own in zip(masks, words, strict=True):
        set_bits(own, rng.permutation(np.flatnonzero(mask)))
        np.testing.assert_array_equal(own, np.packbits(mask, bitorder="little").view(np.uint64))
    removed, added = differences(*words)
    np.testing.assert_array_equal(removed, np.flatnonzero(masks[0] & ~masks[1]))
    np.testing.assert_array_equal(added, np.flatnonzero(masks[1] & ~masks[0]))


def test_thinning_is_skimages():
    mask = np.random.default_rng(0).random((40, 70)) < 0.6
    np.testing.assert_array_equal(thin(mask), morphology.thin(mask))
