"""Arithmetic with the same bits on every CPU: elementary functions, small products and random draws.

IEEE 754 fixes the results of ``+ - * /`` and square roots; those of everything else depend on the library, its version and
the CPU's vector instructions: sin, exp and powers, and also matrix products and ``einsum``, which order or fuse their sums
as the CPU likes. So the generator of rooms takes these from here. Functions of numbers are compiled without ``fastmath``.
"""

import math
from typing import Any

import numpy as np

from mtlsi_net.data.rooms.raycast import Floats, compiled

LN2 = 0.6931471805599453
HALF_PI = 1.5707963267948966
NORMAL_STEP = 1e-9
"""Normal draws are multiples of this: their rare tail comes from the C library's logarithm."""


@compiled
def cos_sin(angle: float) -> tuple[float, float]:
    """Return cosine and sine of ``angle`` (radians, a few turns at most) to about 1e-15; exact at multiples of pi / 2."""
    quarter = np.rint(angle / HALF_PI)
    x = angle - quarter * HALF_PI
    y = x * x
    c = 1 - y * (1 / 132) * (1 - y * (1 / 182) * (1 - y * (1 / 240)))
    c = 1 - y * (1 / 30) * (1 - y * (1 / 56) * (1 - y * (1 / 90) * c))
    c = 1 - y * (1 / 2) * (1 - y * (1 / 12) * c)
    s = 1 - y * (1 / 110) * (1 - y * (1 / 156) * (1 - y * (1 / 210)))
    s = 1 - y * (1 / 20) * (1 - y * (1 / 42) * (1 - y * (1 / 72) * s))
    s = x * (1 - y * (1 / 6) * s)
    turn = int(quarter) % 4
    if turn == 0:
        return c, s
    if turn == 1:
        return -s, c
    return (-c, -s) if turn == 2 else (s, -c)


@compiled
def exp(x: float) -> float:
    """Return e to the power of ``x`` (-700..700), to about 1e-15 of the result."""
    doublings = np.rint(x / LN2)
    r = x - doublings * LN2
    value = 1.0
    for n in range(14, 0, -1):
        value = 1.0 + value * r / n
    return math.ldexp(value, int(doublings))


@compiled
def log(x: float) -> float:
    """Return the natural logarithm of ``x`` > 0, to about 1e-15."""
    share, doublings = math.frexp(x)
    if share < 0.7071067811865476:
        share, doublings = 2 * share, doublings - 1
    s = (share - 1) / (share + 1)
    y, value = s * s, 0.0
    for n in range(21, 0, -2):
        value = value * y + 1.0 / n
    return doublings * LN2 + 2 * s * value


@compiled
def power(base: float, exponent: float) -> float:
    """Return ``base`` >= 0 to the power of ``exponent``; 0 for base 0."""
    return exp(exponent * log(base)) if base > 0 else 0.0


@compiled
def tanh(x: float) -> float:
    """Return the hyperbolic tangent of ``x`` (-300..300) to about 1e-15."""
    return 1 - 2 / (exp(2 * x) + 1)


@compiled
def channel_means(values: Floats) -> Floats:
    """Return the means (3,) of ``values`` (N, 3), summed in their order."""
    total = np.zeros(3)
    for n in range(len(values)):
        for c in range(3):
            total[c] += values[n, c]
    return total / len(values)


def dot(a: Floats, b: Floats) -> Floats:
    """Return the scalar products of vectors (..., 3)."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def length(vectors: Floats) -> Floats:
    """Return the lengths of vectors (..., 3)."""
    return np.sqrt(dot(vectors, vectors))


def transform(matrices: Floats, vectors: Floats) -> Floats:
    """Return matrices (..., 3, 3) times vectors (..., 3)."""
    terms = matrices * vectors[..., None, :]
    return terms[..., 0] + terms[..., 1] + terms[..., 2]


def product(a: Floats, b: Floats) -> Floats:
    """Return matrices (..., 3, 3) times matrices (..., 3, 3)."""
    terms = a[..., None] * b[..., None, :, :]
    return terms[..., 0, :] + terms[..., 1, :] + terms[..., 2, :]


class Draws(np.random.Generator):
    """A generator whose ``uniform`` and ``normal`` draws, too, are the same on every CPU; it takes a bit generator."""

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Return numbers from ``low`` to ``high``, which may be arrays."""
        if size is None and (np.ndim(low) or np.ndim(high)):
            low, high = np.broadcast_arrays(low, high)
            size = low.shape
        return low + (high - low) * self.random(size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Return normal numbers of mean ``loc`` and standard deviation ``scale``."""
        return loc + scale * (np.rint(self.standard_normal(size) / NORMAL_STEP) * NORMAL_STEP)
