"""Exported graphs and saved models compute what PyTorch does."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.miniature import compose_config

import mtlsi_net
from mtlsi_net.core.errors import UserError
from mtlsi_net.inference import export as exporting
from mtlsi_net.inference.export import export, size_multiple

IMAGE = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained.checkpoint


def exported(checkpoint, out, *overrides):
    return export(compose_config(f"ckpt={checkpoint}", f"out={out}", *overrides, name="export"))


def expected(checkpoint, image, tasks=None):
    model = mtlsi_net.load(checkpoint, tasks, device="cpu")
    with torch.no_grad():
        outputs = model(image)
    return {name: task.postprocess(outputs[name]).numpy() for name, task in model.tasks.items()}


def assert_close(found, wanted):
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        if value.dtype.kind == "i":
            assert (found[name] != value).mean() < 1e-3
        else:
            np.testing.assert_allclose(found[name], value, atol=1e-4)


def run_onnx(path, image):
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True)), session.get_modelmeta()


def test_onnx_of_one_size_carries_its_meaning(checkpoint, tmp_path):
    path = exported(checkpoint, tmp_path / "a" / "m.onnx", "dynamic=false", "tasks=[normals,semseg]")
    found, meta = run_onnx(path, IMAGE)
    assert_close(found, expected(checkpoint, IMAGE, ["semseg", "normals"]))
    facts = meta.custom_metadata_map
    tasks = json.loads(facts["tasks"])
    assert len(tasks["semseg"]["classes"]) == 40
    assert tasks["normals"]["unit"] == "unit vectors x, y, z"
    assert (json.loads(facts["height"]), json.loads(facts["width"])) == (64, 80)
    assert "NYUDv2" in json.loads(facts["licences"])["data"]
    # What predict gives for an image of that size, bytes and all.
    pixels = (255 * IMAGE[0].permute(1, 2, 0)).byte().numpy()
    again, _ = run_onnx(path, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    result = mtlsi_net.load(checkpoint, device="cpu").predict(pixels, size="original")
    np.testing.assert_allclose(again["normals"][0], result["normals"].value.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def traced(checkpoint):
    """Return the graph of one task at one size, as ``_trace`` does, for tests of what follows."""
    size = tuple(IMAGE.shape[-2:])
    return exporting._trace(mtlsi_net.load(checkpoint, ["depth"], device="cpu"), dynamic=False, size=size)


def test_nan_is_a_difference(checkpoint, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_trace", lambda *_, **__: traced)
    write, run = exporting._FORMATS["torch_export"]
    monkeypatch.setitem(
        exporting._FORMATS, "torch_export", (write, lambda path, image: [y * np.nan for y in run(path, image)])
    )
    with pytest.raises(UserError, match="depth differs from PyTorch by nan"):
        exported(checkpoint, tmp_path / "m.pt2", "format=torch_export", "dynamic=false", "tasks=[depth]")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_any_batch_and_size(checkpoint, tmp_path, kind):
    path = exported(checkpoint, tmp_path / "m", "dynamic=true", f"format={kind}")
    multiple = size_multiple(mtlsi_net.load(checkpoint, device="cpu"))
    for sides in ((1, 2, 2), (3, 2, 5), (2, 4, 2)):
        shape = sides[0], 3, sides[1] * multiple, sides[2] * multiple
        image = torch.rand(shape)
        wanted = expected(checkpoint, image)
        if kind == "onnx":
            found, _ = run_onnx(path, image)
        else:
            found = dict(
                zip(wanted, (y.detach().numpy() for y in torch.export.load(path).module()(image)), strict=True)
            )
        assert_close(found, wanted)


def test_torchs_own_format(checkpoint, tmp_path):
    path = exported(
        checkpoint, tmp_path / "m", "format=torch_export", "dynamic=false", "size=[50,70]", "tasks=[depth,normals]"
    )
    assert path == tmp_path / "m.pt2"
    extra = {"about.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    image = torch.rand(1, 3, 50, 70)
    facts = json.loads(extra["about.json"])
    assert_close(
        dict(zip(facts["outputs"], (y.detach().numpy() for y in module(image)), strict=True)),
        expected(checkpoint, image, ["depth", "normals"]),
    )


def test_safetensors_is_a_folder_to_load(checkpoint, tmp_path):
    folder = exported(checkpoint, tmp_path / "saved", "format=safetensors")
    assert_close(expected(folder, IMAGE), expected(checkpoint, IMAGE))


def test_a_graph_that_computes_something_else_is_removed(checkpoint, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_trace", lambda *_, **__: traced)
    run = exporting._FORMATS["torch_export"][1]
    monkeypatch.setitem(
        exporting._FORMATS,
        "torch_export",
        (exporting._FORMATS["torch_export"][0], lambda path, image: [y + 0.01 for y in run(path, image)]),
    )
    with pytest.raises(UserError, match=r"m\.pt2 was removed: depth differs from PyTorch by .*tolerance=0\.001"):
        exported(checkpoint, tmp_path / "m.pt2", "format=torch_export", "dynamic=false", "tasks=[depth]")
    assert not (tmp_path / "m.pt2").exists()


def fails_if_dynamic(program, path, names, facts):  # noqa: ARG001 - the signature of what writes a graph
    path.write_text("a part of it")
    path.with_name(f"{path.name}.data").write_text("weights")
    if facts["batch"] == "any":
        raise IndexError("no such operator")


def traced_as_asked(model, *, dynamic, size):  # noqa: ARG001 - the signature of _trace
    return None, {"batch": "any" if dynamic else 1, "height": size[0], "width": size[1]}


def test_what_fails_to_convert_is_exported_at_one_size_or_removed(checkpoint, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(exporting, "_trace", traced_as_asked)
    monkeypatch.setattr(exporting, "_check", lambda *_: None)
    monkeypatch.setitem(exporting._FORMATS, "torch_export", (fails_if_dynamic, None))
    options = ("format=torch_export", "tasks=[depth]", "size=[128,192]")
    with pytest.raises(UserError, match=r"m\.pt2 was not written: .*\(no such operator\); dynamic=false exports"):
        exported(checkpoint, tmp_path / "m.pt2", "dynamic=true", *options)
    assert not list(tmp_path.iterdir())
    exported(checkpoint, tmp_path / "m.pt2", *options)
    assert "cannot be exported with dynamic sizes (no such operator); exporting 128x192 only" in caplog.text
    assert (tmp_path / "m.pt2").is_file()


def test_an_unchecked_graph_does_not_stay(checkpoint, tmp_path, monkeypatch):
    def no_session(*_):
        raise RuntimeError("no session")

    monkeypatch.setattr(exporting, "_trace", traced_as_asked)
    monkeypatch.setattr(exporting, "_check", no_session)
    monkeypatch.setitem(exporting._FORMATS, "torch_export", (fails_if_dynamic, None))
    with pytest.raises(UserError, match=r"m\.pt2 was not written: .*\(no session\)"):
        exported(checkpoint, tmp_path / "m.pt2", "format=torch_export", "dynamic=false", "tasks=[depth]")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_backbones_that_take_one_size_alone(checkpoint, tmp_path, monkeypatch, caplog):
    trace = exporting._trace

    def no_dynamic(model, *, dynamic, size):
        if dynamic:
            raise ValueError("constraints violated")
        return trace(model, dynamic=dynamic, size=size)

    monkeypatch.setattr(exporting, "_trace", no_dynamic)
    options = ("format=torch_export", "tasks=[depth]")
    with pytest.raises(UserError, match=r"m\.pt2 was not written: .*cannot be exported \(constraints.*dynamic=false"):
        exported(checkpoint, tmp_path / "m.pt2", "dynamic=true", *options)
    exported(checkpoint, tmp_path / "m.pt2", "size=[128,192]", *options)
    assert "cannot be exported with dynamic sizes" in caplog.text
    assert (tmp_path / "m.pt2").is_file()


def test_the_default_graph_takes_the_training_size(checkpoint, tmp_path, monkeypatch, caplog):
    """Dynamic sizes are multiples of the strides and windows, which 64x80 is not."""
    caplog.set_level("INFO")
    asked = []
    monkeypatch.setattr(exporting, "_FORMATS", {"onnx": (lambda *_: None, None)})
    monkeypatch.setattr(exporting, "_check", lambda *_: None)
    facts = {"batch": 1, "height": 64, "width": 80}
    monkeypatch.setattr(
        exporting, "_trace", lambda _, *, dynamic, size: asked.append((dynamic, size)) or (None, dict(facts))
    )
    exported(checkpoint, tmp_path / "m.onnx", "tasks=[depth]")
    exported(checkpoint, tmp_path / "n.onnx", "tasks=[depth]", "size=[128,192]")
    assert asked == [(False, (64, 80)), (True, (128, 192))]
    assert "takes images of batch 1, height 64, width 80" in caplog.text
    predict = f"python -m mtlsi_net.predict ckpt={tmp_path / 'n.onnx'} input=IMAGE_OR_FOLDER"
    assert caplog.messages[-1] == f"written: {tmp_path / 'n.onnx'}; predict with it: {predict}"


def test_what_cannot_be_exported(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"format=onxx is not known"):
        exported(checkpoint, tmp_path / "m", "format=onxx")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"out=.*file/m cannot be written"):
        exported(checkpoint, tmp_path / "file" / "m", "format=safetensors")
    for size in ("[0,5]", "512", "[1,2,3]"):
        with pytest.raises(UserError, match=r"size=.*pass \[height, width\]"):
            exported(checkpoint, tmp_path / "m", f"size={size}", "format=torch_export")
    for own, words in (
        (checkpoint, "is the model itself"),
        (checkpoint.parent.parent, "is the folder of a trained run"),
    ):
        with pytest.raises(UserError, match=words):
            exported(checkpoint, own, "format=safetensors")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(UserError, match=r"format=onnx needs onnx; install it with pip install"):
        exported(checkpoint, tmp_path / "m")
