"""The transform vectors' input, as samples."""

import numpy as np
from helpers.vectors import tensor
from numpy.typing import NDArray

from mtlsi_net.data.transforms import IMAGE, Sample
from mtlsi_net.specs import TargetSpec

SPECS = {
    "edge": TargetSpec(1, "binary"),
    "semseg": TargetSpec(1, "classes", num_classes=40),
    "normals": TargetSpec(3, "vector", fill=0.0, flip_sign=(-1.0, 1.0, 1.0), invalid="short_vector"),
    "depth": TargetSpec(1, "scalar", fill=0.0, zoom_divides=True, invalid="zero"),
}


def vector(name: str) -> NDArray[np.float32]:
    """Return a fresh copy of one array."""
    return tensor(name).numpy()


def vector_sample() -> Sample:
    """Return the input, image and classes as readers give them; of normals and edge the vectors hold values only."""
    sample = {name: vector(f"tf_in_{name}") for name in (IMAGE, *SPECS)}
    return sample | {name: sample[name].astype(np.uint8) for name in (IMAGE, "semseg")}


def stored_sample() -> Sample:
    """Return the input with all maps as files would store them, but for depth."""
    sample = vector_sample()
    normals = ((sample["normals"] + 1) * 127.5).round().astype(np.uint8)
    return sample | {"normals": normals, "edge": (sample["edge"] * 255).astype(np.uint8)}
