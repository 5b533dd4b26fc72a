"""Use networks, metrics, tasks and a saved model where neither Lightning, nor wandb, nor albumentations can be imported.

Run as ``python library_alone.py FOLDER``; raises if something does not work.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

BLOCKED = ("lightning", "lightning_fabric", "pytorch_lightning", "wandb", "albumentations")


class Blocker(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


sys.meta_path.insert(0, Blocker())

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402

import mtlsi_net  # noqa: E402
from mtlsi_net.core.types import Batch, Reference  # noqa: E402
from mtlsi_net.engine.build import build_network, build_tasks  # noqa: E402
from mtlsi_net.tasks.base import Task  # noqa: E402

SIZE = (48, 64)


def labels(task: Task) -> torch.Tensor:
    """Return a label map (2, C, H, W) with some invalid pixels."""
    spec = task.target
    if spec.num_classes is not None:
        target = torch.randint(spec.num_classes, (2, 1, *SIZE)).float()
    elif spec.kind == "binary":
        target = torch.randint(2, (2, 1, *SIZE)).float()
    else:
        target = torch.nn.functional.normalize(torch.rand(2, spec.channels, *SIZE) + 0.1, dim=1) + (spec.channels == 1)
    target[..., :2, :] = 255
    return target


def use_tasks(cfg: DictConfig) -> None:
    """Compute every task's loss, and every metric on a prediction."""
    tasks = build_tasks(cfg)
    network = build_network(cfg, tasks)
    targets = {name: labels(task) for name, task in tasks.items()}
    boundaries = Reference(np.full((1, *SIZE), 255, np.uint8) * (np.arange(SIZE[1]) == 20), "boundaries")
    batch: Batch = {
        "image": torch.rand(2, 3, *SIZE),
        "valid": torch.ones(2, 1, *SIZE, dtype=torch.bool),
        "id": ["a", "b"],
        "targets": targets,
        "references": {"boundary": [boundaries, boundaries]},
    }
    outputs = network(batch["image"], batch["valid"]).final
    losses = {name: task.loss(outputs[name], targets[name]) for name, task in tasks.items()}
    sum(losses.values()).backward()
    assert all(loss > 0 for loss in losses.values()), losses
    for name, task in tasks.items():
        metric = task.new_metric()
        task.update(metric, task.postprocess(outputs[name].detach()), batch, name)
        scores = {key: float(value) for key, value in metric.compute().items()}
        assert np.isfinite(scores[task.main_key(scores)]), (name, scores)


def use_model(cfg: DictConfig, folder: Path) -> None:
    """Save a model, load it from its folder and from a checkpoint, and predict the same with all three."""
    parts = OmegaConf.to_container(cfg, resolve=True)
    order = list(parts["tasks"])  # JSON does not keep it
    model = mtlsi_net.Model(
        parts["model"], parts["backbone"], parts["tasks"], size=list(SIZE), order=order, scale=parts["data"]["scale"]
    )
    model.save_pretrained(folder / "saved")
    state = {f"network.{key}": value for key, value in model.network.state_dict().items()}
    kept = {key: parts[key] for key in ("model", "backbone", "tasks", "data")}
    torch.save({"config": kept, "priors": {}, "state_dict": state}, folder / "last.ckpt")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = model.predict(image)
    for path in (folder / "saved", folder / "last.ckpt"):
        result = mtlsi_net.load(path, device="cpu").predict(image)
        for name in model.tasks:
            assert result[name].value.shape[1:] == (40, 50)
            torch.testing.assert_close(result[name].value, expected[name].value)


if __name__ == "__main__":
    torch.manual_seed(0)
    small = (
        "backbone=tiny",
        "backbone.name=test_resnet",
        "model.width=32",
        "model.head_dim=32",
        f"data.size=[{SIZE[0]},{SIZE[1]}]",
    )
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        for data in ("nyud", "pascal"):
            config = compose("train", ["experiment=nyud_overfit", f"data={data}", "data.root=nowhere", *small])
            use_tasks(config)
        use_model(config, Path(sys.argv[1]))
    assert not any(name.partition(".")[0] in BLOCKED for name in sys.modules)
