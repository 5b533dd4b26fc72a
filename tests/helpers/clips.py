"""Short videos."""

import cv2
import numpy as np


def write_clip(path, frames=6, size=(48, 64), rate=12.0):
    """Write frames of one colour each: black first, then brighter and brighter red; return ``path``."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size[::-1])
    for number in range(frames):
        frame = np.zeros((*size, 3), np.uint8)
        frame[..., 2] = 40 * number  # OpenCV's order: blue, green, red
        writer.write(frame)
    writer.release()
    return path
