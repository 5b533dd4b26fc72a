"""Camera of generated rooms: from light to stored pixels, with exposure, lens blur, noise and a tone curve."""

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.data.rooms.exact import channel_means, exp, log, power
from mtlsi_net.data.rooms.materials import GAMMA
from mtlsi_net.data.rooms.raycast import Floats, Ints, compiled

BRIGHTEST = 6.0
"""Light is cut at this multiple of its upper quartile."""
SHOULDER = 1.3
LUMA = 0.2126, 0.7152, 0.0722


@compiled
def _key(light: Floats) -> float:
    """Return the geometric mean of the luminance of ``light`` (N, 3)."""
    total = 0.0
    for n in range(len(light)):
        total += log(LUMA[0] * light[n, 0] + LUMA[1] * light[n, 1] + LUMA[2] * light[n, 2] + 1e-4)
    return exp(total / len(light))


@compiled
def _weighted(values: Floats, weights: Floats, step: int) -> Floats:
    """Return the weighted sums, (H, W - (K - 1) step), of values (H, W) that lie ``step`` columns apart, weights (K,)."""
    out = np.zeros((values.shape[0], values.shape[1] - (len(weights) - 1) * step))
    for i in range(out.shape[0]):
        for k in range(len(weights)):
            for j in range(out.shape[1]):
                out[i, j] += weights[k] * values[i, j + k * step]
    return out


def _blurred(light: Floats, sigma: float) -> Floats:
    """Return light (H, W, 3) blurred by a Gaussian of ``sigma`` pixels, mirrored at the borders."""
    reach = max(1, round(4 * sigma))
    bell = [exp(-0.5 * (k / sigma) * (k / sigma)) for k in range(-reach, reach + 1)]
    weights = np.array(bell) / sum(bell)
    wide = np.pad(light, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = _weighted(wide.reshape(1, -1), weights, wide[0].size).reshape(len(light), -1)
    return _weighted(rows, weights, light.shape[2]).reshape(light.shape)


def _thresholds() -> Floats:
    """Return the light (255,) from which each next level is stored: a film-like shoulder, then gamma.

    The shoulder keeps lamps and windows from clipping hard.
    """
    levels = (np.arange(255) + 0.5) / 255
    return np.array([-log(1 - power(level, GAMMA)) / SHOULDER for level in levels])


THRESHOLDS = _thresholds()
BRIGHTEST_ROOT = 2.1
"""Square root of a light just beyond the last threshold."""
GUESSES = np.searchsorted(THRESHOLDS, np.linspace(0, BRIGHTEST_ROOT, 256) ** 2)
"""Levels (256,) of the lights whose square roots are 0 .. ``BRIGHTEST_ROOT``; for finding a light's level quickly."""


@compiled
def _levels(light: Floats, thresholds: Floats, guesses: Ints) -> NDArray[np.uint8]:
    """Return the number of ``thresholds`` (ascending) that each value (N,) reaches, searched from a guess."""
    levels = np.empty(len(light), dtype=np.uint8)
    last = len(guesses) - 1
    for n in range(len(light)):
        root = min(np.sqrt(max(0.0, light[n])), BRIGHTEST_ROOT)
        level = guesses[int(root * (last / BRIGHTEST_ROOT))]
        while level > 0 and light[n] < thresholds[level - 1]:
            level -= 1
        while level < len(thresholds) and light[n] >= thresholds[level]:
            level += 1
        levels[n] = level
    return levels


def develop(radiance: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return radiance (H, W, 3) as a camera would store it: uint8 RGB.

    Exposure and white balance follow the scene, imperfectly; then vignetting, lens blur, noise and a tone curve.
    """
    height, width = radiance.shape[:2]
    upper = 3 * radiance.size // 4
    light = np.minimum(radiance, BRIGHTEST * np.partition(radiance, upper, axis=None)[upper] + 1e-6)
    tint = channel_means(light.reshape(-1, 3))
    balance, gains = rng.uniform(0.3, 0.9), rng.normal(0, 0.04, 3)
    gray = (tint[0] + tint[1] + tint[2]) / 3
    light *= [exp(gain) * power(gray / channel, balance) for gain, channel in zip(gains, tint, strict=True)]
    light *= 0.28 * power(2.0, rng.normal(0, 0.35)) / _key(light.reshape(-1, 3))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    falloff = 1 + rng.uniform(0.0, 0.35) * (x * x + y * y) / 2
    light /= (falloff * falloff)[..., None]
    light = _blurred(light, rng.uniform(0.3, 0.75) * max(1.0, height / 300))
    noise = rng.normal(0.0, 1.0, light.shape)
    shot, read = rng.uniform(0.0, 0.03), rng.uniform(0.001, 0.008)
    light += noise * np.sqrt(shot * shot * light + read * read)
    return _levels(light.ravel(), THRESHOLDS, GUESSES).reshape(light.shape)
