"""The transform vectors' input, as samples."""

from typing import Any

import numpy as np
import torch
from helpers.vectors import tensor
from numpy.typing import NDArray

from mtlsi_net.core.types import Batch, TargetSpec
from mtlsi_net.data.dataset import MultiTaskDataset, collate
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.sampling import Draw
from mtlsi_net.data.transforms import IMAGE, PAD_COLOR, VALID, Sample, Specs

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


def values_of(padded: Sample, specs: Specs = SPECS) -> dict[str, NDArray[Any]]:
    """Return what ``pad`` gave as ``batch_values`` decodes it."""
    tensors = {name: torch.from_numpy(planes)[None] for name, planes in padded.items()}
    batch: Batch = {
        "image": tensors[IMAGE],
        "valid": tensors[VALID],
        "pad_color": tensors[PAD_COLOR],
        "id": [""],
        "targets": {name: tensors[name] for name in specs},
        "references": {},
    }
    decoded = batch_values(batch, specs)
    maps = {IMAGE: decoded["image"], VALID: decoded["valid"], **decoded["targets"]}
    return {name: values[0].numpy() for name, values in maps.items()}


def loaded(dataset: MultiTaskDataset, index: int, epoch: int = 0) -> Batch:
    """Return one sample of a data set as a batch, decoded."""
    specs = dataset.reader.specs
    return batch_values(collate([dataset[Draw(epoch, index)]], specs), specs)
