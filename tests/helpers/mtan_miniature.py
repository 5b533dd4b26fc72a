"""Tiny data sets in the layout in which MTAN prepared NYUv2 and Cityscapes, written as its archives store them.

``python tests/helpers/mtan_miniature.py FOLDER`` writes both.
"""

import sys
from pathlib import Path

import numpy as np

SIZES = {"nyuv2_mtan": (36, 48), "cityscapes_mtan": (32, 64)}
CLASSES = {"nyuv2_mtan": 13, "cityscapes_mtan": 7}


def write_mtan(
    root: Path,
    data: str = "nyuv2_mtan",
    train: int = 4,
    val: int = 3,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Path:
    """Write ``train`` + ``val`` samples of the data set ``data`` with all its classes; return ``root``.

    Images float32 multiples of 1/255; labels float64 (NYUv2) or int64 (Cityscapes) with -1; depth float32 (H, W, 1) with 0;
    normals float32 (H, W, 3), unit or zero.
    """
    rng = np.random.default_rng(seed)
    height, width = size or SIZES[data]
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            classes = rng.permutation(CLASSES[data])[np.arange(width) * CLASSES[data] // width]
            label = np.repeat(classes[None], height, axis=0).astype(np.float64 if data == "nyuv2_mtan" else np.int64)
            label[: 2 + number % 2] = -1
            noise = rng.integers(0, 40, (height, width, 3))
            image = ((label[..., None] + 1) * np.array([15, 10, 5]) + noise) / np.float32(255)
            depth = np.linspace(1, 4, width, dtype=np.float32)[None].repeat(height, 0) + np.float32(rng.random())
            depth[:, -3:] = 0
            if data == "cityscapes_mtan":
                depth = depth / np.float32(20)
            normals = np.zeros((height, width, 3), np.float32)
            normals[..., 2], normals[..., 0] = np.cos(label), np.sin(label)
            normals[-2:] = 0
            arrays = {"image": image.astype(np.float32), "label": label, "depth": depth[..., None], "normal": normals}
            for folder, array in arrays.items():
                if folder == "normal" and data == "cityscapes_mtan":
                    continue
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                np.save(root / split / folder / f"{number}.npy", array)
    return root


def mtan_overrides(root: Path, run_dir: Path, data: str, steps: int = 5) -> list[str]:
    """Return the overrides of a run of a few steps on a miniature."""
    height, width = SIZES[data]
    return [
        f"experiment={data}",
        f"data.root={root}",
        f"data.size=[{height},{width}]",
        "data.batch_size=2",
        "data.num_workers=0",
        "backbone=tiny",
        "backbone.name=test_resnet",
        "model.width=32",
        "trainer=cpu",
        "trainer.log_every_n_steps=1",
        f"trainer.max_steps={steps}",
        "trainer.enable_progress_bar=false",
        "logger=csv",
        "pictures=2",
        f"paths.run_dir={run_dir}",
    ]


if __name__ == "__main__":
    for name in SIZES:
        print(f"data={name} data.root={write_mtan(Path(sys.argv[1]) / name, name)} data.size={list(SIZES[name])}")
