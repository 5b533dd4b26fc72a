"""The notebooks run at a small size, wherever in a checkout, and what is committed of them is small and names no machine."""

import importlib.util
import os
import re
import shutil
import socket
import time
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers.commands import Command
from helpers.miniature import compose_config, short_overrides, write_miniature
from nbclient.exceptions import CellExecutionError
from PIL import Image

from mtlsi_net.engine.train import train

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ABSOLUTE = re.compile(r"""(?<![\w.:/<'"])/(?:home|root|tmp|usr|var|work|opt|mnt|data|Users|private)/|[A-Z]:\\""")
MOST_BYTES = 400_000

spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools" / "run_notebooks.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


class Kernel(Command):
    """A notebook's kernel forked from the server of commands."""

    stdin = stdout = stderr = None

    def __init__(self, words, env, cwd, **_):
        (_python, _m, module), options = words[:3], words[3:]
        super().__init__(module, *options, cwd=Path(cwd), environment=env, own_group=True)
        while os.getpgid(self.pid) != self.pid:  # the group that its client sends signals to
            time.sleep(0.01)

    def wait(self):
        self.communicate()
        return self.returncode


@pytest.fixture(scope="module", autouse=True)
def _kernels_are_forked():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", Kernel)
        yield


def named(beginning):
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(beginning))
    return path


def said(notebook):
    """Return all text that a notebook's cells put out."""
    outputs = [own for cell in notebook.cells for own in cell.get("outputs", [])]
    data = [value for own in outputs for kind, value in own.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join([*map(str, data), *(own.get("text", "") for own in outputs)])


def pictures(notebook):
    outputs = (own for cell in notebook.cells for own in cell.get("outputs", []))
    return sum(any(kind.startswith("image/") for kind in own.get("data", {})) for own in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_was_run_in_order_without_errors_and_is_small(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [own.output_type for cell in code for own in cell.outputs]
    assert "error" not in kinds
    assert not [own.text for cell in code for own in cell.outputs if own.get("name") == "stderr"]
    assert pictures(notebook) > 3
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_names_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    sources = "\n".join(cell.source for cell in notebook.cells)
    assert not ABSOLUTE.findall(said(notebook) + sources)
    assert socket.gethostname() not in set(re.findall(r"[\w.-]+", said(notebook))) - set(
        re.findall(r"[\w.-]+", sources)
    )
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}


SMALLER = {
    "01": {
        '"data.prepare.train=24", "data.prepare.val=8", "data.prepare.height=144", "data.prepare.width=192"': (
            '"data.prepare.train=12", "data.prepare.val=2", "data.prepare.height=72", "data.prepare.width=96"'
        ),
        '"data.size=[144,192]"': '"data.size=[72,96]"',
        "range(200)": "range(10)",
    },
    "02": {
        '"experiment=rooms_demo"': '"experiment=rooms_demo", "backbone=tiny", "data.size=[72,96]"',
        '"data.prepare.train=64", "data.prepare.val=8"': (
            '"data.prepare.train=8", "data.prepare.val=4", "data.prepare.height=72", "data.prepare.width=96"'
        ),
        '"120"': '"2"',
        '"images=8", "gradient_images=8"': '"images=4", "gradient_images=4"',
        "(192, 256), (384, 512), (768, 1024)": "(192, 256)",
    },
    "04": {
        '"a": (120, 160), "b": (160, 120)': '"a": (60, 80), "b": (80, 60)',
        '"train": 119': '"train": 11',
        '"data.size=[96,128]"': '"data.size=[64,64]"',
        '"STEPS", "400"': '"STEPS", "10"',
    },
    "03": {
        '"backbone=lite0"': '"backbone=tiny", "backbone.name=test_resnet"',
        '"data.prepare.train=64", "data.prepare.val=16"': '"data.prepare.train=8", "data.prepare.val=4"',
        '"60"': '"2"',
    },
}
"""Notebook -> words of its cells that cost time, and what they become."""


def write_smaller(beginning, path):
    """Write a notebook with less to compute."""
    notebook = nbformat.read(named(beginning), as_version=4)
    for words, fewer in SMALLER[beginning].items():
        assert sum(words in cell.source for cell in notebook.cells) == 1, words
        for cell in notebook.cells:
            cell.source = cell.source.replace(words, fewer)
    nbformat.write(notebook, path)


@pytest.mark.parametrize("beginning", ["01", "02"])
def test_a_notebook_runs_at_a_small_size(beginning, tmp_path):
    committed = nbformat.read(named(beginning), as_version=4)
    write_smaller(beginning, tmp_path / "small.ipynb")
    work = tmp_path / "work"
    work.mkdir()
    assert pictures(tool.execute(tmp_path / "small.ipynb", work)) == pictures(committed)
    assert not list(work.iterdir())  # nothing is left in the working directory


@pytest.mark.slow
def test_a_checkpoint_of_ones_own_is_opened_and_its_one_shared_matrix_agrees_with_the_weights(tmp_path, monkeypatch):
    data, run, work = write_miniature(tmp_path / "data", train=8, val=8), tmp_path / "run", tmp_path / "work"
    train(compose_config(*short_overrides(data, run)))
    monkeypatch.setenv("CKPT", str(run / "checkpoints" / "last.ckpt"))
    work.mkdir()
    text = said(tool.execute(named("02"), work))
    assert "one shared matrix with equal weights" in text
    assert float(re.search(r"largest difference (\S+),", text)[1]) < 1e-4


def said_in_a_checkout(notebook, tmp_path, *studies):
    """Return what a notebook says deep inside a checkout whose experiments are ours, with these studies on rooms alone."""
    for part in (ROOT / "experiments").iterdir():
        if part.is_dir():
            shutil.copytree(
                part, tmp_path / "experiments" / part.name, ignore=shutil.ignore_patterns("sweeps", "*.html", "results")
            )
    for name in studies:
        shutil.copytree(ROOT / "experiments" / "compare_page", tmp_path / "experiments" / name / "results")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    text = said(tool.execute(notebook, deep))
    assert not list(deep.iterdir())
    ours, _, published = text.partition("nyud, published")
    assert "InvPT, paper" in published
    assert "InvPT, paper" not in ours
    return text


def test_networks_are_trained_and_compared_and_the_studies_of_the_checkout_around_are_shown(tmp_path):
    write_smaller("03", tmp_path / "small.ipynb")
    text = said_in_a_checkout(tmp_path / "small.ipynb", tmp_path, "rooms_toy", "rooms_other")
    for network in ("mtlsi", "shared_encoder", "single_task"):
        assert re.search(rf"\| {network} +\| [\d.]+ +\| [\d.]+ +\|", text), network
    assert [name for name in ("rooms_toy", "rooms_other") if f"### {name}" in text] == ["rooms_toy", "rooms_other"]
    assert "1.102 ± 0.016" in text  # depth of two seeds in compare_page
    assert "holds no study on rooms yet" not in text


def test_a_checkout_without_studies_says_so(tmp_path):
    notebook = nbformat.read(named("03"), as_version=4)
    beginnings = [cell.source.partition("\n")[0] for cell in notebook.cells]
    trained, after = (beginnings.index(f"## {heading}") for heading in ("Three networks, one encoder", "The demo"))
    del notebook.cells[trained:after]  # what follows reads only files of the checkout
    nbformat.write(notebook, tmp_path / "read.ipynb")
    text = said_in_a_checkout(tmp_path / "read.ipynb", tmp_path)
    assert "rooms_demo" in text
    assert "### rooms_" not in text
    assert "1.102 ± 0.016" not in text
    assert "holds no study on rooms yet" in text


def test_a_cell_that_raises_is_an_error(tmp_path):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "broken.ipynb")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        tool.execute(tmp_path / "broken.ipynb", tmp_path)


def png(pixels):
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_drawings_stay_exact_and_photographs_become_smaller():
    drawing = np.zeros((50, 80, 3), np.uint8)
    drawing[10:20, 30:] = 255, 0, 40
    kind, content = tool.small_picture(png(drawing))
    assert kind == "image/png"
    assert (np.asarray(Image.open(BytesIO(content)).convert("RGB")) == drawing).all()

    noise = np.random.default_rng(0).integers(0, 256, (400, 1800, 3), dtype=np.uint8)
    kind, content = tool.small_picture(png(noise))
    assert kind == "image/jpeg"
    assert Image.open(BytesIO(content)).size == (800, 178)
    assert len(content) < len(png(noise))
