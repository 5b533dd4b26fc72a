"""Exported graphs where a trained model is asked for: prediction, Python, the demo page; and files that are not theirs."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import onnx
import pytest
import torch
from helpers.miniature import SIZE, compose_config, short_overrides, write_miniature
from PIL import Image

import mtlsi_net
from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.train import train
from mtlsi_net.inference import demo
from mtlsi_net.inference.export import export
from mtlsi_net.inference.predict import predict

TASKS = ("semseg", "depth", "normals")


class Exports:
    """A run, and what ``export`` made of it."""

    def __init__(self, folder):
        self.data = write_miniature(folder / "data")
        options = (o for o in short_overrides(self.data, folder / "run") if "head_dim" not in o)
        self.run = train(compose_config(*options, "model=shared_encoder")).folder
        self.model = mtlsi_net.load(self.run.root, device="cpu")
        self.onnx = self.export(folder / "m.onnx", "dynamic=false", f"tasks=[{','.join(TASKS)}]")
        self.pt2 = self.export(folder / "m.pt2", "format=torch_export", "dynamic=false")

    def export(self, out, *more):
        return export(compose_config(f"ckpt={self.run.root}", f"out={out}", *more, name="export"))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("graphs"))


def photograph(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def run(source, images, out, *more):
    settings = (f"ckpt={source}", f"input={images}", f"out={out}", "progress=false", "device=cpu")
    return predict(compose_config(*settings, *more, name="predict"))


def assert_same(found, wanted, tasks=TASKS):
    assert list(found) == list(tasks)
    for name in tasks:
        ours, theirs = found[name].value, wanted[name].value
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if name == "semseg":
            assert (ours != theirs).float().mean() <= 1e-3
        else:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_graph_predicts_for_an_image_of_its_size_what_the_network_does(exports):
    image = photograph(*SIZE)
    result = mtlsi_net.load(exports.onnx).predict(image)
    assert_same(result, exports.model.predict(image))
    assert result.seen == "processed as in evaluation"
    assert result["semseg"].task.class_names == exports.model.tasks["semseg"].class_names


def test_the_command_writes_what_it_writes_for_the_run(exports, tmp_path, caplog):
    caplog.set_level("INFO")
    run(exports.run.root, exports.data / "images", tmp_path / "run", f"tasks=[{','.join(TASKS)}]")
    run(exports.onnx, exports.data / "images", tmp_path / "graph")
    names = [sorted(f.relative_to(tmp_path / k) for f in (tmp_path / k).rglob("*.*")) for k in ("run", "graph")]
    assert names[0] == names[1]
    depths = [np.load(tmp_path / kind / "0001_depth.npy") for kind in ("run", "graph")]
    np.testing.assert_allclose(*depths, atol=1e-3)
    assert json.loads((tmp_path / "graph" / "run.json").read_text())["model"]["licences"]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((96, 128), "reduced to"),
        ((60, 40), "padded to 48x64"),
        ((24, 32), "enlarged to about 48x64 pixels"),
        ((200, 50), "reduced to fit into the graph's 48x64, padded to 48x64"),
        ((1, 1), "enlarged"),
    ],
)
def test_images_of_other_sizes_keep_their_size_and_it_is_said_what_was_done(exports, size, words):
    image = photograph(*size)
    result = mtlsi_net.load(exports.onnx).predict(image)
    assert words in result.seen
    for one in result.values():
        assert one.value.shape[-2:] == size
    lengths = result["normals"].value.norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones(size), rtol=0, atol=1e-4)
    if size == (96, 128):  # the same view as the network's
        wanted = exports.model.predict(image)
        assert (result["depth"].value - wanted["depth"].value).abs().max() < 0.05


def test_the_command_says_in_one_line_how_the_graph_saw_the_images(exports, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "in").mkdir()
    for name, size in {"same": SIZE, "tall": (200, 50)}.items():
        Image.fromarray(photograph(*size)).save(tmp_path / "in" / f"{name}.png")
    run(exports.onnx, tmp_path / "in", tmp_path / "out", "batch_size=4")
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("images: ")]
    assert "1 processed as in evaluation" in line
    assert "1 reduced to fit into the graph's 48x64, padded to 48x64" in line
    assert "mode=sliding" not in line


def test_a_program_predicts_what_the_network_does_in_every_way_that_it_can(exports):
    model = mtlsi_net.load(exports.pt2, device="cpu")
    image = photograph(110, 90)
    for viewing in ({}, {"flip": True, "scales": (1.0, 1.5)}, {"mode": "sliding"}):
        found, wanted = model.predict(image, **viewing), exports.model.predict(image, **viewing)
        assert found.seen == wanted.seen
        for name in exports.model.tasks:
            torch.testing.assert_close(found[name].value, wanted[name].value, rtol=0, atol=0)
    assert model.about == exports.model.about


def test_a_program_of_some_tasks(exports, tmp_path):
    path = exports.export(tmp_path / "some.pt2", "format=torch_export", "dynamic=false", "tasks=[normals,depth]")
    image = photograph(*SIZE)
    assert_same(mtlsi_net.load(path).predict(image), exports.model.predict(image), ("depth", "normals"))


@pytest.mark.slow
def test_a_graph_of_any_size_takes_images_of_all_sizes(exports, tmp_path):
    path = exports.export(tmp_path / "any.onnx", "dynamic=true", "tasks=[depth,semseg]")
    model = mtlsi_net.load(path)
    for size in ((64, 128), (96, 96), (50, 70)):
        result = model.predict(photograph(*size), size="original")
        assert result["depth"].value.shape[-2:] == size
    image = photograph(64, 128)
    wanted = exports.model.predict(image, size="original")
    assert_same(model.predict(image, size="original"), wanted, ("semseg", "depth"))
    both = model.predict_many([image, photograph(64, 128, 1)], mtlsi_net.inference.views.Viewing(size="original"))
    assert_same(both[0], wanted, ("semseg", "depth"))


def test_the_demo_page_shows_a_graph(exports, tmp_path):
    Image.fromarray(photograph(*SIZE)).save(tmp_path / "x.png")
    model = mtlsi_net.load(exports.onnx)
    shown = demo._predict(model, str(tmp_path / "x.png"), "whole", tmp_path, flip=False)
    assert shown[1] == "Image of 48x64 pixels, processed as in evaluation."


# -- what a graph cannot do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["mode=sliding", "flip=true", "scales=[1.0,1.5]", "maps=true"])
def test_settings_that_need_the_network_are_refused_before_anything_is_written(exports, tmp_path, setting):
    with pytest.raises(UserError, match="finished values only; give the run, checkpoint or saved model"):
        run(exports.onnx, exports.data / "images", tmp_path / "out", setting)
    assert not (tmp_path / "out").exists()


def test_other_devices_and_precisions_are_refused(exports):
    with pytest.raises(UserError, match=r"precision=bf16-mixed is not possible with .*m\.onnx"):
        mtlsi_net.load(exports.onnx, precision="bf16-mixed")
    with pytest.raises(UserError, match="device=tpu cannot be used by ONNX Runtime"):
        mtlsi_net.load(exports.onnx, device="tpu")


def test_some_tasks_of_a_graph(exports, tmp_path):
    run(exports.onnx, exports.data / "images" / "0001.png", tmp_path / "out", "tasks=[depth]", "sheets=false")
    assert sorted(f.name for f in (tmp_path / "out").glob("*.npy")) == ["0001_depth.npy"]
    with pytest.raises(UserError, match="tasks=boundary is not known"):
        mtlsi_net.load(exports.onnx, ["boundary"])


def test_commands_that_need_a_network_say_what_to_give(exports, tmp_path):
    quiet = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.num_workers=0")
    for path in (exports.onnx, exports.pt2):
        with pytest.raises(UserError, match=r"is an exported graph.*give the run, checkpoint or saved model"):
            evaluate(compose_config(f"ckpt={path}", f"paths.run_dir={tmp_path / 'e'}", *quiet, name="evaluate"))
    with pytest.raises(UserError, match="is a graph already"):
        export(compose_config(f"ckpt={exports.onnx}", f"out={tmp_path / 'again'}", name="export"))


# -- files that are not theirs ----------------------------------------------------------------------------------------


def test_no_onnx_runtime(exports, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(
        UserError, match=r"m\.onnx needs onnxruntime; install it with pip install 'mtlsi-net\[export\]'"
    ):
        mtlsi_net.load(exports.onnx)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_missing_damaged_and_foreign_files(exports, tmp_path, kind):
    path = tmp_path / f"m.{kind}"
    with pytest.raises(UserError, match=r"does not exist; give a file that export wrote"):
        mtlsi_net.load(path)
    whole = (exports.onnx if kind == "onnx" else exports.pt2).read_bytes()
    for content in (b"", b"something else", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read.*; is it complete") as caught:
            mtlsi_net.load(path)
        assert "\n" not in str(caught.value)


def with_metadata(source, path, change):
    """Copy an ONNX graph or a program, its metadata changed."""
    if source.suffix == ".onnx":
        graph = onnx.load(source)
        facts = change({entry.key: entry.value for entry in graph.metadata_props})
        del graph.metadata_props[:]
        onnx.helper.set_model_props(graph, facts)
        onnx.save(graph, path)
        return path
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("about.json"):
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(entry.filename, content)
    return path


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_files_of_earlier_versions_and_of_others(exports, tmp_path, kind):
    source = exports.onnx if kind == "onnx" else exports.pt2
    changes = {
        "exported by an earlier version.*export it again": lambda facts: {
            k: v for k, v in facts.items() if k != "mtlsi_net"
        },
        "not written by this suite's export": lambda _: {},
        "its metadata is damaged.*export it again": lambda facts: facts | {"mtlsi_net": '{"tasks": 3}'},
    }
    for message, change in changes.items():
        with pytest.raises(UserError, match=message) as caught:
            mtlsi_net.load(with_metadata(source, tmp_path / f"m.{kind}", change))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_code_that_a_file_names_is_not_run(exports, tmp_path, kind):
    def change(facts):
        model = facts["mtlsi_net"]
        model = json.loads(model) if isinstance(model, str) else model
        model["tasks"]["depth"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'run'}"}
        return facts | {"mtlsi_net": json.dumps(model)}

    source = exports.onnx if kind == "onnx" else exports.pt2
    with pytest.raises(UserError, match=r"names os\.system, which is no network, task or data set of this suite"):
        mtlsi_net.load(with_metadata(source, tmp_path / f"m.{kind}", change))
    assert not (tmp_path / "run").exists()


class Touching:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_program_with_code_in_its_weights_or_graph_runs_none_of_it(exports, tmp_path):
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(exports.pt2) as old, zipfile.ZipFile(bad, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("model_weights_config.json"):
                config = json.loads(content)
                first = next(iter(config["config"].values()))
                first["use_pickle"] = True
                where, content = first["path_name"], json.dumps(config).encode()
            new.writestr(entry.filename, content)
    rewritten = tmp_path / "worse.pt2"
    shutil.copy(bad, rewritten)
    with zipfile.ZipFile(bad) as old, zipfile.ZipFile(rewritten, "w") as new:
        for entry in old.infolist():
            theirs = entry.filename.endswith(f"data/weights/{where}")
            new.writestr(entry.filename, pickle.dumps(Touching(tmp_path / "run")) if theirs else old.read(entry))
    with pytest.raises(UserError, match=r"its weights cannot be read \(.*pickled"):
        mtlsi_net.load(rewritten)
    assert not (tmp_path / "run").exists()
