"""A tiny random data set in the NYUDv2 layout, and the shortest run on it."""

import tempfile
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from PIL import Image

SIZE = (48, 64)
_OUTPUTS = tempfile.TemporaryDirectory(prefix="mtlsi_tests_")


def write_miniature(root: Path, train: int = 4, val: int = 2, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    """Write ``train`` + ``val`` random samples with smooth labels; return ``root``."""
    rng = np.random.default_rng(seed)
    ids = [f"{k:04d}" for k in range(1, train + val + 1)]
    for folder in ("images", "depth", "segmentation", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for sample_id in ids:
        half = int(rng.integers(size[1] // 4, size[1] // 2))
        classes = np.full(size, 1, np.uint8)
        classes[:, half:] = 2
        classes[: size[0] // 3, half:] = 5
        classes[:2] = 0
        normals = np.full((*size, 3), (127, 127, 254), np.uint8)
        normals[:, half:] = (254, 127, 127)
        normals[-2:] = 127
        depth = np.linspace(1, 4, size[1], dtype=np.float32)[None].repeat(size[0], 0)
        depth[:, -2:] = 0
        edge = np.zeros(size, np.uint8)
        edge[:, half] = 255
        image = (classes[..., None] * np.array([60, 40, 20]) + rng.integers(0, 30, (*size, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{sample_id}.png")
        Image.fromarray(classes).save(root / "segmentation" / f"{sample_id}.png")
        Image.fromarray(normals).save(root / "normals" / f"{sample_id}.png")
        Image.fromarray(edge).save(root / "edge" / f"{sample_id}.png")
        np.save(root / "depth" / f"{sample_id}.npy", depth)
    (root / "gt_sets" / "train.txt").write_text("\n".join(ids[:train]) + "\n")
    (root / "gt_sets" / "val.txt").write_text("\n".join(ids[train:]) + "\n")
    return root


def short_overrides(root: Path, run_dir: Path, steps: int = 2) -> list[str]:
    """Return the overrides of a run of a few steps on a miniature."""
    return [
        "experiment=nyud_overfit",
        "backbone.name=test_resnet",  # a fifth of tiny's modules
        f"data.root={root}",
        f"data.size=[{SIZE[0]},{SIZE[1]}]",
        "data.scale=1.0",
        "data.batch_size=2",
        "model.width=32",
        "model.head_dim=32",
        f"trainer.max_steps={steps}",
        "trainer.enable_progress_bar=false",
        "pictures=0",
        f"paths.run_dir={run_dir}",
    ]


def compose_config(*overrides: str, name: str = "train") -> DictConfig:
    """Return the composed configuration of an entry point; caches go to a temporary folder."""
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        return compose(name, [f"paths.output_dir={_OUTPUTS.name}", *overrides])
