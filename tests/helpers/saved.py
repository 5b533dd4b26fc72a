"""Predictions in files, as peers and as our own commands lay them out."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtlsi_net.engine.evaluate import Restored
from mtlsi_net.tasks.metrics import postprocess

PEERS_FOLDERS = {
    "semseg": "semseg",
    "human_parts": "human_parts",
    "saliency": "sal",
    "normals": "normals",
    "boundary": "edge",
    "depth": "depth",
}


def predicted(restored: Restored) -> dict[str, dict[str, Tensor]]:
    """Return id -> task -> post-processed value (C, H, W) at the image's own size, of the validation images."""
    found = {}
    restored.module.eval()
    for stored in restored.data.val_dataloader():
        batch = restored.data.to_device(stored, restored.module.device)
        with torch.no_grad():
            values = postprocess(restored.tasks, restored.module(batch["image"], batch["valid"]).final)
        for index, sample_id in enumerate(batch["id"]):
            valid = batch["valid"][index, 0]
            rows, columns = valid.any(1), valid.any(0)
            found[sample_id] = {name: value[index][:, rows][:, :, columns] for name, value in values.items()}
    return found


def save(value: Tensor, kind: str, path: Path, *, exact_normals: bool) -> None:
    """Write one value; ``path`` has no suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = value.permute(1, 2, 0).numpy()
    png, npy = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.npy")
    if kind == "scalar":
        np.save(npy, array[..., 0].astype(np.float32))
    elif kind == "vector" and exact_normals:
        np.save(npy, array.astype(np.float32))
    elif kind == "vector":
        Image.fromarray((127.5 * (array + 1)).round().astype(np.uint8)).save(png)
    elif kind == "binary":
        Image.fromarray((255 * array[..., 0]).astype(np.uint8)).save(png)
    else:
        Image.fromarray(array[..., 0].astype(np.uint8)).save(png)


def save_as_peers(restored: Restored, root: Path) -> Path:
    """Write one folder for each task, normals in 8 bits."""
    for sample_id, values in predicted(restored).items():
        for name, value in values.items():
            kind = restored.tasks[name].target.kind
            save(value, kind, root / PEERS_FOLDERS[name] / sample_id, exact_normals=False)
    return root


def save_as_ours(restored: Restored, root: Path) -> Path:
    """Write one folder for all tasks, normals as floats."""
    for sample_id, values in predicted(restored).items():
        for name, value in values.items():
            save(value, restored.tasks[name].target.kind, root / f"{sample_id}_{name}", exact_normals=True)
    return root
