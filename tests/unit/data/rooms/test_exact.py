"""The rooms' own arithmetic against the libraries it stands in for."""

import math

import cv2
import numpy as np
import pytest

from mtlsi_net.data.rooms import exact
from mtlsi_net.data.rooms.develop import GUESSES, THRESHOLDS, _blurred, _levels


def values(function, inputs):
    return np.array([function(x) for x in inputs])


def test_cosine_and_sine():
    angles = np.linspace(-40, 40, 2001)
    np.testing.assert_allclose(values(exact.cos_sin, angles), np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-14)


def test_quarter_turns_are_exact():
    turns = values(exact.cos_sin, np.arange(-4, 5) * np.pi / 2)
    np.testing.assert_array_equal(turns[4:8], [[1, 0], [0, 1], [-1, 0], [0, -1]])
    np.testing.assert_array_equal(turns[:4], turns[4:8])


def test_exponential_logarithm_and_hyperbolic_tangent():
    numbers = np.linspace(-300, 300, 2001)
    np.testing.assert_allclose(values(exact.exp, numbers), np.exp(numbers), rtol=1e-13)
    np.testing.assert_allclose(values(exact.log, np.exp(numbers)), numbers, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(
        values(exact.log, np.linspace(0.5, 2, 999)), np.log(np.linspace(0.5, 2, 999)), atol=1e-15
    )
    np.testing.assert_allclose(values(exact.tanh, numbers / 10), np.tanh(numbers / 10), atol=1e-14)


def test_powers():
    bases = np.linspace(0, 5, 501)
    np.testing.assert_allclose([exact.power(x, 2.2) for x in bases], bases**2.2, rtol=1e-14)
    assert exact.power(0.0, 0.5) == 0.0


def test_products():
    rng = np.random.default_rng(0)
    a, b, v = rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 3))
    np.testing.assert_allclose(exact.product(a, b), a @ b, rtol=1e-12)
    np.testing.assert_allclose(exact.product(a[0], b), a[0] @ b, rtol=1e-12)
    np.testing.assert_allclose(exact.transform(a, v), np.einsum("nij,nj->ni", a, v), rtol=1e-12)
    np.testing.assert_allclose(exact.transform(a[0], v), v @ a[0].T, rtol=1e-12)
    np.testing.assert_allclose(exact.length(v), np.linalg.norm(v, axis=1), rtol=1e-14)
    np.testing.assert_allclose(exact.channel_means(v), v.mean(axis=0), rtol=1e-12)


def test_draws_are_those_of_numpy():
    ours, theirs = exact.Draws(np.random.PCG64([3, 4])), np.random.default_rng([3, 4])
    low, high = [0.0, 1.0], np.array([3.0, 5.0])
    for _ in range(300):
        assert ours.uniform(2, 5) == pytest.approx(theirs.uniform(2, 5), rel=1e-15)
        np.testing.assert_allclose(ours.uniform(low, high), theirs.uniform(low, high), rtol=1e-15)
        np.testing.assert_allclose(ours.uniform(0, 9, 3), theirs.uniform(0, 9, 3), rtol=1e-15)
        assert ours.normal(1, 2) == pytest.approx(theirs.normal(1, 2), abs=2e-9)
        np.testing.assert_allclose(ours.normal(0, 0.3, (2, 3)), theirs.normal(0, 0.3, (2, 3)), atol=1e-9)
        assert ours.choice(3, p=(0.2, 0.3, 0.5)) == theirs.choice(3, p=(0.2, 0.3, 0.5))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.75, 2.0])
def test_blur(sigma):
    light = np.random.default_rng(0).random((16, 23, 3))
    np.testing.assert_allclose(_blurred(light, sigma), cv2.GaussianBlur(light, (0, 0), sigma), atol=2e-4)


def test_levels_are_those_of_the_tone_curve():
    light = np.abs(np.random.default_rng(0).normal(0, 1.5, 20_000))
    curve = (255 * (1 - np.exp(-1.3 * light)) ** (1 / 2.2)).round()
    np.testing.assert_array_equal(_levels(light, THRESHOLDS, GUESSES), curve)


def test_levels_step_exactly_at_the_thresholds():
    edges = np.concatenate([THRESHOLDS, np.nextafter(THRESHOLDS, 0), [-1.0, 0.0, 1e9, math.inf]])
    expected = np.concatenate([np.arange(1, 256), np.arange(255), [0, 0, 255, 255]])
    np.testing.assert_array_equal(_levels(edges, THRESHOLDS, GUESSES), expected)
