"""A small file in the true structure of ``nyu_depth_v2_labeled.mat``: Matlab 7.3's HDF5, axes reversed, cells of references."""

from pathlib import Path

import h5py
import numpy as np

from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.data_tools.class_maps import official_map

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jul 19 10:15:53 2012 HDF5 schema 1.00 ."
HEIGHT, WIDTH = 480, 640
NUMBERS = {"wall": 21, "floor": 11, "cabinet": 3, "chair": 5, "books": 85, "otherprop": None}
"""Name -> label in the official list, of some classes."""


def names_of_labels():
    """Return 894 names, those of the 40 classes at their official places."""
    names = [f"thing {number}" for number in range(1, 895)]
    table = official_map(40)
    for number, name in enumerate(CLASS_SETS["nyud40"][:37], start=1):
        names[int(np.flatnonzero(table == number)[0]) - 1] = name
    return names


def scene(number):
    """Return image (H, W, 3), depth, raw depth, labels and instances (H, W) of a room: two chairs before a wall, a floor."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.full((HEIGHT, WIDTH), 2.0 + 0.25 * number, np.float32)
    labels = np.full((HEIGHT, WIDTH), NUMBERS["wall"], np.uint16)
    instances = np.ones((HEIGHT, WIDTH), np.uint8)
    floor = rows >= 360
    depth[floor] = (1.2 * 519.469611 / (rows - 252.736166))[floor]
    labels[floor] = NUMBERS["floor"]
    for instance, left in ((1, 150), (2, 330)):
        chair = (rows >= 200) & (rows < 330) & (columns >= left) & (columns < left + 120)
        depth[chair], labels[chair], instances[chair] = 1.5, NUMBERS["chair"], instance
    labels[100:110, 300:420] = 700  # a thing that the 40 classes call otherprop or otherfurniture
    labels[:, 498:502] = 0  # an unlabelled strip
    raw = depth.copy()
    raw[250:300, 560:600] = 0  # a hole that the in-painting filled
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = labels % 251, instances * 50, rng.integers(0, 255, (HEIGHT, WIDTH))
    return image, depth, raw, labels, instances


def write_nyu_mat(path: Path, count: int = 3, chunk: int = 1) -> Path:
    """Write ``count`` scenes; ``chunk`` is the number of images in one compressed block of the file."""
    scenes = [scene(number) for number in range(count)]
    arrays = {
        "images": np.stack([image.transpose(2, 1, 0) for image, *_ in scenes]),
        "depths": np.stack([one[1].T for one in scenes]),
        "rawDepths": np.stack([one[2].T for one in scenes]),
        "labels": np.stack([one[3].T for one in scenes]),
        "instances": np.stack([one[4].T for one in scenes]),
    }
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            chunks = (min(chunk, count), *values.shape[1:])
            data = file.create_dataset(name, data=values, chunks=chunks, compression="gzip", compression_opts=1)
            data.attrs["MATLAB_class"] = np.bytes_({"float32": "single"}.get(str(values.dtype), str(values.dtype)))
        cell = file.create_dataset("names", (1, 894), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        for place, name in enumerate(names_of_labels()):
            text = file.create_dataset(f"#refs#/n{place}", data=np.array([[ord(letter)] for letter in name], np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            cell[0, place] = text.ref
        file.create_dataset("accelData", data=np.zeros((4, count), np.float32))
    with path.open("r+b") as start:
        start.write(HEADER)
    return path
