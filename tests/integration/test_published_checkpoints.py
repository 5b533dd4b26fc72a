"""The documentation page on published checkpoints, tried with a stand-in for their repositories."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import run_command
from helpers.miniature import write_miniature
from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "published-checkpoints.md").read_text()

COMMON_CONFIG = '''
import torch
from torch import nn


class Theirs(nn.Module):
    """As the published networks: normalised images to their own names of tasks, and more."""

    def __init__(self, p):
        super().__init__()
        self.tasks = p.TASKS.NAMES
        self.backbone = nn.Conv2d(3, 4, 1)
        self.heads = nn.ModuleDict({t: nn.Conv2d(4, p.TASKS.NUM_OUTPUT[t], 1) for t in self.tasks})

    def forward(self, x):
        out = {t: self.heads[t](self.backbone(x)) for t in self.tasks}
        return out | {"inter_preds": dict(out), "route_0": x.mean()}


def get_model(p):
    return Theirs(p)
'''
CONFIG = """
import json
from types import SimpleNamespace


def create_config(exp_file, params):
    assert params["run_mode"] == "infer"
    outputs = json.loads(open(exp_file).read())
    return SimpleNamespace(TASKS=SimpleNamespace(NAMES=list(outputs), NUM_OUTPUT=outputs))
"""
OUTPUTS = {"semseg": 40, "depth": 1, "edge": 1, "normals": 3}


@pytest.fixture
def checkout(tmp_path):
    """Return a folder of the structure that their repositories share, with a checkpoint."""
    root = tmp_path / "InvPT"
    (root / "utils").mkdir(parents=True)
    (root / "configs" / "nyud").mkdir(parents=True)
    (root / "utils" / "__init__.py").write_text("")
    (root / "utils" / "common_config.py").write_text(COMMON_CONFIG)
    (root / "utils" / "config.py").write_text(CONFIG)
    (root / "configs" / "nyud" / "nyud_vitLp16.yml").write_text(json.dumps(OUTPUTS))
    torch.manual_seed(0)
    shapes = {"backbone": (4, 3, 1, 1), **{f"heads.{name}": (k, 4, 1, 1) for name, k in OUTPUTS.items()}}
    state = {f"module.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    state |= {f"module.{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    torch.save({"model": state, "epoch": 3, "iter_count": 40000}, tmp_path / "InvPT_NYUDv2.pth.tar")
    return root


@pytest.mark.usefixtures("checkout")
def test_the_pages_adapter_and_command_score_a_checkpoint(tmp_path):
    (block,) = re.findall(r"```python\n# published\.py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "published.py").write_text(block)
    data = write_miniature(tmp_path / "NYUDv2")
    (command, _) = re.findall(r"^python -m (mtlsi_net\.evaluate .*)$", PAGE.replace("\\\n", " "), re.MULTILINE)
    words = [word.replace("/path/to", str(tmp_path)) for word in shlex.split(command)]
    words = [word for word in words if not word.startswith("trainer=gpu")]
    quick = (
        "data.num_workers=0",
        "data.size=[48,64]",
        "trainer.enable_progress_bar=false",
        "paths.run_dir=run",
        "pictures=0",
    )
    done = run_command(*words, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())["last"]["val"]
    assert set(scores) == {"semseg", "depth", "normals", "boundary"}
    depth = expected_depth(data, torch.load(tmp_path / "InvPT_NYUDv2.pth.tar")["model"])
    assert scores["depth"]["rmse"] == pytest.approx(depth, rel=1e-4)


def expected_depth(data, state):
    """Return the depth's RMSE, computed by hand from the files and the checkpoint's weights."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def layer(name, x):
        weight, bias = (state[f"module.{name}.{part}"].numpy() for part in ("weight", "bias"))
        return x @ weight[:, :, 0, 0].T + bias

    squares = []
    for name in (data / "gt_sets" / "val.txt").read_text().split():
        image = (np.asarray(Image.open(data / "images" / f"{name}.png")) / 255 - mean) / std
        label = np.load(data / "depth" / f"{name}.npy")
        predicted = layer("heads.depth", layer("backbone", image))[..., 0].clip(min=0)
        squares.append(((predicted - label) ** 2)[label > 0])
    return float(np.sqrt(np.concatenate(squares).mean()))
