"""Thinning to one-pixel lines, and boundaries of a label map.

Masks are thinned as bits: the pixels of an image, row after row, 64 to a word, with a frame of zeros around them.
"""

from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
Pixel = TypeVar("Pixel", bound=np.generic)

BITS = 64
FRAME = 2
ONE, EIGHT, LAST, BYTE = np.uint64(1), np.uint64(8), np.uint64(BITS - 1), np.uint64(255)


@njit(cache=True, nogil=True)
def _mark_deletable(words: Words, at: int, row: int, half: int, deletable: Words) -> bool:
    """Set the bits in ``deletable`` that a sub-iteration deletes in the ``row`` words from ``at``; return whether any is set.

    Guo and Hall's conditions on the neighbours x1 .. x8, counter-clockwise from east, one bit of each word a pixel.
    """
    up_west, up, up_east = words[at - row - 1 :], words[at - row :], words[at - row + 1 :]
    west, here, east = words[at - 1 :], words[at:], words[at + 1 :]
    down_west, down, down_east = words[at + row - 1 :], words[at + row :], words[at + row + 1 :]
    any_set = np.uint64(0)
    for j in range(row):
        x1, x5 = here[j] >> ONE | east[j] << LAST, here[j] << ONE | west[j] >> LAST
        x2, x3, x4 = up[j] >> ONE | up_east[j] << LAST, up[j], up[j] << ONE | up_west[j] >> LAST
        x8, x7, x6 = down[j] >> ONE | down_east[j] << LAST, down[j], down[j] << ONE | down_west[j] >> LAST
        a, b, c, d = ~x1 & (x2 | x3), ~x3 & (x4 | x5), ~x5 & (x6 | x7), ~x7 & (x8 | x1)
        one_crossing = (a ^ b ^ c ^ d) & ~(a & b) & ~(c & d)
        a, b, c, d = x1 | x2, x3 | x4, x5 | x6, x7 | x8
        two, four = a & b | c & d | (a | b) & (c | d), a & b & c & d
        a, b, c, d = x2 | x3, x4 | x5, x6 | x7, x8 | x1
        two &= a & b | c & d | (a | b) & (c | d)
        four &= a & b & c & d
        side = (x2 | x3 | ~x8) & x1 if half == 0 else (x6 | x7 | ~x4) & x5
        deletable[j] = here[j] & one_crossing & two & ~four & ~side
        any_set |= deletable[j]
    return any_set != 0


@njit(cache=True, nogil=True)
def thin_words(words: Words, row: int) -> None:
    """Thin bits in place to convergence, ``row`` words a row; a row is visited again only after a change next to it.

    The first and last ``FRAME`` rows, and the first and last bit of every row, must be 0.
    """
    rows = words.size // row
    due = np.ones((2, rows), np.bool_)
    due[:, :FRAME] = due[:, rows - FRAME :] = False
    deletable = np.zeros((rows, row), np.uint64)
    changed = np.empty(rows, np.int64)
    half, idle = 0, 0
    while idle < 2:
        count = 0
        for r in range(FRAME, rows - FRAME):
            if due[half, r]:
                due[half, r] = False
                if _mark_deletable(words, r * row, row, half, deletable[r]):
                    changed[count] = r
                    count += 1
        for k in range(count):
            r = changed[k]
            for j in range(row):
                words[r * row + j] &= ~deletable[r, j]
            for other in range(max(r - 1, FRAME), min(r + 2, rows - FRAME)):
                due[0, other] = due[1, other] = True
        idle = 0 if count else idle + 1
        half = 1 - half


def frame(array: NDArray[Pixel], border: int) -> NDArray[Pixel]:
    """Return an (H, W) array with at least ``border`` zeros on every side and whole words in each row."""
    width = array.shape[1] + 2 * border
    return np.pad(array, ((border, border), (border, border - width % -BITS)))


def pack(framed: Mask) -> Words:
    """Return the bits of an (H, 64 words) mask, (H, words)."""
    return np.packbits(framed, axis=1, bitorder="little").view(np.uint64)


@njit(cache=True, nogil=True)
def set_bits(words: Words, pixels: Indices) -> None:
    """Set pixels, flat indices of bits, in flat ``words``."""
    for pixel in pixels:
        words[pixel >> 6] |= ONE << np.uint64(pixel & 63)


@njit(cache=True, nogil=True)
def _bits(words: Words) -> Indices:
    """Return the flat indices of the bits that are set, rising."""
    count = 0
    for word in words:
        while word:
            word &= word - ONE
            count += 1
    found = np.empty(count, np.int64)
    count = 0
    for i in range(words.size):
        word = words[i]
        bit = 64 * i
        while word:
            if word & BYTE == 0:
                word >>= EIGHT
                bit += 8
                continue
            if word & ONE:
                found[count] = bit
                count += 1
            word >>= ONE
            bit += 1
    return found


@njit(cache=True, nogil=True)
def differences(before: Words, after: Words) -> tuple[Indices, Indices]:
    """Return the flat indices of removed and of added pixels of flat words, rising."""
    return _bits(before & ~after), _bits(after & ~before)


def thin(mask: Mask) -> Mask:
    """Return the (H, W) mask thinned to convergence by Guo and Hall's rules; equals ``skimage.morphology.thin``."""
    words = pack(frame(mask, FRAME))
    thin_words(words.ravel(), words.shape[1])
    thinned = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").view(bool)
    return thinned[FRAME:-FRAME, FRAME : FRAME + mask.shape[1]]


def seg2bmap(labels: NDArray[np.generic]) -> Mask:
    """Return where an (H, W) label map differs from its right, lower or lower-right neighbour."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary
