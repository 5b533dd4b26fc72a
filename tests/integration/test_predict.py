"""A trained network in use: the same numbers as in evaluation, whatever way it is loaded, saved and asked."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clips import write_clip
from helpers.commands import run_command
from helpers.documents import DOCUMENTS
from helpers.miniature import compose_config
from helpers.saved import predicted
from omegaconf import OmegaConf
from PIL import Image

import mtlsi_net
from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.drawing import MARGIN
from mtlsi_net.engine.evaluate import evaluate, restore
from mtlsi_net.engine.extend import check_resumable
from mtlsi_net.engine.score import score
from mtlsi_net.engine.score_boundaries import score_folders
from mtlsi_net.inference.attention_maps import draw_maps
from mtlsi_net.inference.model import Model
from mtlsi_net.inference.predict import load_model, predict
from mtlsi_net.inference.video import Video
from mtlsi_net.models.weights import read_weights

QUIET = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.num_workers=0")


@pytest.fixture(scope="module")
def model(trained):
    return mtlsi_net.load(trained.checkpoint, device="cpu")


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (50, 70, 3)).astype(np.uint8)


def run(trained, source, out, *overrides):
    settings = (f"ckpt={trained.run.root}", f"input='{source}'", f"out={out}", "progress=false", "device=cpu")
    return predict(compose_config(*settings, *overrides, name="predict"))


def assert_same(result, other):
    assert list(result) == list(other)
    for name, one in result.items():
        torch.testing.assert_close(one.value, other[name].value, rtol=0, atol=0)


# -- the numbers ----------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_evaluate(trained, model, tmp_path):
    cfg = compose_config(f"ckpt={trained.checkpoint}", f"paths.run_dir={tmp_path}", *QUIET, name="evaluate")
    for sample_id, values in predicted(restore(cfg)).items():
        result = model.predict(trained.data / "images" / f"{sample_id}.png")
        for name, value in values.items():
            assert (result[name].value.float() - value.float()).abs().max() <= 1e-6


def test_saved_predictions_score_as_evaluate_does(trained, tmp_path):
    found = evaluate(
        compose_config(f"ckpt={trained.checkpoint}", f"paths.run_dir={tmp_path / 'e'}", *QUIET, name="evaluate")
    )
    expected = json.loads(found.folder.metrics.read_text())["last"]["val"]
    ids = (trained.data / "gt_sets" / "val.txt").read_text().split()
    for sample_id in ids:
        run(trained, trained.data / "images" / f"{sample_id}.png", tmp_path / "pred")
    settings = ("data=nyud", f"data.root={trained.data}", f"pred={tmp_path / 'pred'}", "progress=false")
    done = score(compose_config(*settings, f"paths.run_dir={tmp_path / 's'}", name="score"))
    scores = json.loads(done.folder.metrics.read_text())["last"]["val"]
    for task, values in expected.items():
        for key, value in values.items():
            assert scores[task][key] == pytest.approx(value, abs=0.005 if task == "boundary" else 1e-5), (task, key)


ROUNDING = 3e-4
"""Vectors of mirrored and scaled views nearly cancel at some pixels: there the mean's direction amplifies rounding."""


@pytest.mark.parametrize("options", [{}, {"mode": "sliding", "overlap": 0.5}, {"flip": True, "scales": (1.0, 1.5)}])
def test_fewer_tasks_give_the_same_results(trained, model, image, options):
    image = np.tile(image, (2, 2, 1))
    small = mtlsi_net.load(trained.checkpoint, tasks=["normals", "depth"], device="cpu")
    assert list(small.tasks) == ["depth", "normals"]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    whole, cut = model.predict(image, **options), small.predict(image, **options)
    for name in small.tasks:
        torch.testing.assert_close(cut[name].value, whole[name].value, rtol=0, atol=ROUNDING)
    again = mtlsi_net.load(trained.checkpoint, tasks=["depth", "normals", "boundary"], device="cpu")
    again.keep_tasks(["normals"])  # of those that are kept
    torch.testing.assert_close(
        again.predict(image, **options)["normals"].value, whole["normals"].value, rtol=0, atol=ROUNDING
    )
    assert list(mtlsi_net.load(trained.checkpoint, tasks="depth", device="cpu").tasks) == ["depth"]
    with pytest.raises(UserError, match="tasks=dept is not known; did you mean 'depth'"):
        mtlsi_net.load(trained.checkpoint, tasks=["dept"])
    with pytest.raises(UserError, match="leaves nothing to predict"):
        mtlsi_net.load(trained.checkpoint, tasks=[])


SIZES = [(97, 131), (131, 97), (64, 80), (65, 81), (33, 500), (240, 320), (1, 1)]
LARGE = [(427, 640), (1024, 768), (2000, 3000)]


@pytest.mark.parametrize("size", [*SIZES, (2000, 300), *(pytest.param(size, marks=pytest.mark.slow) for size in LARGE)])
def test_every_size_comes_back_as_it_was(model, size):
    picture = Image.effect_mandelbrot(size[::-1], (-2, -1.5, 1, 1.5), 50).convert("RGB")
    modes = ("whole", "sliding") if size[0] * size[1] < 50_000 else ("whole",)
    for mode in modes:
        result = model.predict(picture, mode=mode)
        assert {one.numpy().shape[:2] for one in result.values()} == {size}
        assert result["semseg"].numpy().dtype == np.uint8
        assert result["depth"].numpy().dtype == np.float32
        assert result["depth"].numpy().min() >= 0
        np.testing.assert_allclose(np.linalg.norm(result["normals"].numpy(), axis=2), 1, atol=1e-4)
        assert result["boundary"].numpy().min() >= 0
        assert result["boundary"].numpy().max() <= 1
        assert {one.to_pil().size for one in result.values()} == {size[::-1]}


@pytest.mark.slow
def test_real_photographs_of_every_kind(model, real_data, tmp_path):
    photograph = Image.open(next((real_data / "NYUDv2_mini" / "images").glob("*.png"))).convert("RGB")
    for height, width in (*SIZES, *LARGE):
        photograph.resize((width, height)).save(tmp_path / f"{height}x{width}.png")
    photograph.convert("L").save(tmp_path / "grey.png")
    photograph.convert("RGBA").save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257).save(tmp_path / "wide.png")
    for path in tmp_path.iterdir():
        result = model.predict(path)
        width, height = Image.open(path).size
        expected = (width, height) if path.stem == "turned" else (height, width)
        assert {one.numpy().shape[:2] for one in result.values()} == {expected}


# -- the command ----------------------------------------------------------------------------------------------------


def test_a_folder_of_images_gives_files_pictures_and_a_page(trained, model, tmp_path):
    done = run(
        trained, trained.data / "images", tmp_path / "out", f"labels={trained.data}", "maps=true", "batch_size=4"
    )
    assert len(done.names) == 6
    out = tmp_path / "out"
    result = model.predict(trained.data / "images" / "0001.png")
    np.testing.assert_allclose(np.load(out / "0001_depth.npy"), result["depth"].numpy(), atol=1e-5)
    millimetres = np.asarray(Image.open(out / "0001_depth.png"))
    assert millimetres.dtype in (np.uint16, np.int32)
    np.testing.assert_allclose(millimetres / 1000, result["depth"].numpy(), atol=6e-4)
    np.testing.assert_allclose(np.load(out / "0001_normals.npy"), result["normals"].numpy(), atol=1e-5)
    classes = Image.open(out / "0001_semseg.png")
    assert classes.mode == "P"
    np.testing.assert_array_equal(np.asarray(classes), result["semseg"].numpy())
    np.testing.assert_array_equal(np.asarray(classes.convert("RGB")), result["semseg"].pixels())
    boundary = np.asarray(Image.open(out / "0001_boundary.png"))
    np.testing.assert_allclose(boundary, np.trunc(255 * result["boundary"].numpy()), atol=1)
    for folder, names in {"pictures": 24, "sheets": 6, "errors": 6, "maps": 6}.items():
        assert len(list((out / folder).iterdir())) == names
    page = (out / "index.html").read_text()
    assert all(f"sheets/{name}.png" in page for name in done.names)
    meaning = json.loads((out / "tasks.json").read_text())
    assert meaning["depth"]["unit"] == "metres"
    assert len(meaning["semseg"]["classes"]) == 40
    record = json.loads((out / "run.json").read_text())
    assert record["predicted"] == done.names
    assert record["skipped"] == {}
    assert "NYUDv2" in record["model"]["licences"]["data"]


def test_bad_images_are_skipped_and_told_at_the_end(trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "z"):
        Image.new("RGB", (70, 50), (90, 40, 200)).save(folder / f"{name}.png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    words = (f"ckpt={trained.checkpoint}", "input=in", "out=out", "tasks=[depth]")
    done = run_command("mtlsi_net.predict", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: 3 of 5 images were skipped")
    for name in ("empty.png", "text.jpg", "cut.png"):
        assert name in last
        assert name in (tmp_path / "out" / "index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "out").glob("*_*")) == [
        *("a_depth.npy", "a_depth.png", "z_depth.npy", "z_depth.png")
    ]
    assert "tasks depth only" in done.stdout


def test_what_cannot_be_begun(trained, tmp_path):
    (tmp_path / "void").mkdir()
    (tmp_path / "file").touch()
    Image.new("RGB", (5, 5)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="contains no image"):
        run(trained, tmp_path / "void", tmp_path / "out")
    with pytest.raises(UserError, match="cannot be written"):
        run(trained, tmp_path / "x.png", tmp_path / "file" / "out")
    with pytest.raises(UserError, match="is not a folder"):
        run(trained, tmp_path / "x.png", tmp_path / "out", "labels=nowhere")
    with pytest.raises(UserError, match="contains none of the folders"):
        run(trained, tmp_path / "x.png", tmp_path / "out", f"labels={tmp_path / 'void'}")
    with pytest.raises(UserError, match="device=cuda:77 cannot be used"):
        run(trained, tmp_path / "x.png", tmp_path / "out", "device=cuda:77")
    with pytest.raises(UserError, match="precision=8 is not known"):
        run(trained, tmp_path / "x.png", tmp_path / "out", "precision=8")


def test_the_command_takes_the_size_of_the_original(trained, tmp_path):
    Image.new("RGB", (300, 200), (90, 40, 200)).save(tmp_path / "x.png")
    words = (f"ckpt={trained.checkpoint}", "input=x.png", "out=out", "size=original", "tasks=[depth]", "progress=false")
    done = run_command("mtlsi_net.predict", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seen"] == {"processed as in evaluation": 1}


def test_a_misspelt_task_is_told_before_the_network_runs(trained, tmp_path, monkeypatch):
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    monkeypatch.setattr(Model, "raw", None)
    with pytest.raises(UserError, match=r"tasks=dept is not known; did you mean 'depth'"):
        run(trained, tmp_path / "x.png", tmp_path / "out", "tasks=[dept]")
    assert list(
        load_model(compose_config(f"ckpt={trained.checkpoint}", "input=x", "tasks=[depth]", name="predict")).tasks
    )


def test_no_command_writes_among_the_files_of_a_trained_run(trained, tmp_path):
    """The fixture checks that nothing has changed."""
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    place, checkpoint = f"paths.run_dir={trained.run.root}", f"ckpt={trained.checkpoint}"
    with pytest.raises(UserError, match=r"out=.*/run is the folder of a trained run.*choose another folder"):
        run(trained, tmp_path / "x.png", trained.run.root)
    with pytest.raises(UserError, match=r"paths\.run_dir=.*/run is the folder of a trained run"):
        evaluate(compose_config(checkpoint, place, *QUIET, name="evaluate"))
    with pytest.raises(UserError, match=r"paths\.run_dir=.*/run is the folder of a trained run"):
        score(compose_config("data=nyud", f"data.root={trained.data}", f"pred={tmp_path}", place, name="score"))
    words = (f"pred={tmp_path}", f"gt={tmp_path}", "preset=plain", f"out={trained.run.root}")
    with pytest.raises(UserError, match=r"out=.*/run is the folder of a trained run"):
        score_folders(compose_config(*words, name="boundary"))


def test_results_are_not_written_around_the_input(trained, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "photos" / "x.png")
    for out in (tmp_path / "photos", tmp_path):
        with pytest.raises(UserError, match=f"out={out} holds the input; choose another folder"):
            run(trained, tmp_path / "photos", out)


def untrained(*overrides):
    """Return a small model as an ablation makes it."""
    cfg = compose_config("experiment=rooms_demo", "model.width=32", *overrides)
    parts = (OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "backbone", "tasks"))
    return Model(*parts, size=[64, 96])


def test_maps_show_gates_alone_where_a_network_has_no_tokens(image, tmp_path):
    own = untrained("ablation=grid_tokens", "model.head_dim=32")
    draw_maps(own, own.predict(image), tmp_path / "maps.png")
    assert np.asarray(Image.open(tmp_path / "maps.png")).std() > 0


def test_maps_of_a_network_without_both_are_refused_before_the_first_image(tmp_path, monkeypatch):
    own = untrained("model=shared_encoder")
    own.save_pretrained(tmp_path / "saved")
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    monkeypatch.setattr(Model, "raw", None)
    words = (f"ckpt={tmp_path / 'saved'}", f"input={tmp_path / 'x.png'}", f"out={tmp_path / 'out'}", "maps=true")
    with pytest.raises(UserError, match=r"maps=true: .* has no semantic tokens and no gates; omit maps=true"):
        predict(compose_config(*words, "progress=false", name="predict"))
    assert not (tmp_path / "out").exists()


def test_results_among_the_images_are_no_images(trained, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    for _ in range(2):
        assert run(trained, tmp_path, tmp_path / "out", "scales=1.25").names == ["x"]


def test_maps_after_a_second_cut_are_those_of_the_task(trained, model, image, tmp_path):
    again = mtlsi_net.load(trained.checkpoint, tasks=["semseg", "normals"], device="cpu")
    again.keep_tasks(["normals"])
    for name, own in (("whole", model), ("cut", again)):
        draw_maps(own, own.predict(image), tmp_path / f"{name}.png")
    whole, cut = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("whole", "cut"))
    row = list(model.tasks).index("normals") * (cut.shape[0] - MARGIN)
    assert (whole[row : row + cut.shape[0] - 20] == cut[:-20]).mean() > 0.99


def test_labels_of_another_size_spoil_nothing(trained, tmp_path, caplog):
    Image.new("RGB", (30, 20)).save(tmp_path / "0001.png")
    run(trained, tmp_path / "0001.png", tmp_path / "out", f"labels={trained.data}")
    assert "no error map drawn" in caplog.text
    assert (tmp_path / "out" / "0001_depth.npy").is_file()


# -- loading and saving ---------------------------------------------------------------------------------------------


def test_every_way_to_load_gives_the_same(trained, model, image, tmp_path):
    expected = model.predict(image)
    assert_same(mtlsi_net.load(trained.run.root, device="cpu").predict(image), expected)
    assert_same(mtlsi_net.load(trained.run.checkpoints, device="cpu").predict(image), expected)
    model.save_pretrained(tmp_path / "saved")
    assert_same(mtlsi_net.load(tmp_path / "saved", device="cpu").predict(image), expected)
    assert_same(Model.from_pretrained(tmp_path / "saved").predict(image), expected)
    small = mtlsi_net.load(trained.checkpoint, tasks=["boundary"], device="cpu")
    small.save_pretrained(tmp_path / "small")
    again = mtlsi_net.load(tmp_path / "small", device="cpu")
    assert list(again.tasks) == ["boundary"]
    assert_same(again.predict(image), small.predict(image))
    config = (tmp_path / "saved" / "config.json").read_text()
    assert str(trained.run.root.parent) not in config
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "NYUDv2: no licence" in card
    assert "| depth | rmse |" in card


def damaged(trained, tmp_path, change):
    checkpoint = torch.load(trained.checkpoint, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("model", "os.system"),
        ("model", "my.Decoder"),
        ("model", "mtlsi_net.engine.build.instantiate"),
        ("model", "mtlsi_net.core.io.write_text"),
        ("model", "mtlsi_net.models.encoder.timm.create_model"),
        ("model", "mtlsi_net.data.files.read_pixels"),
        ("model", "mtlsi_net.lit.interruption.os.system"),
        ("data", "os.system"),
        ("task_weights", "mtlsi_net.lit.interruption.os.system"),
        ("optim", "my.Decoder"),
    ],
)
def test_a_file_cannot_name_code_to_be_run(trained, tmp_path, target, place):
    def change(checkpoint):
        checkpoint["config"][place]["extra"] = {"_target_": target, "args": ["touch", str(tmp_path / "ran")]}

    path = damaged(trained, tmp_path, change)
    with pytest.raises(
        UserError, match=rf"names {target}.*({'refused' if target.startswith('mtlsi_net') else 'trust='})"
    ):
        mtlsi_net.load(path, trust=["mtlsi_net"])
    with pytest.raises(UserError, match="names"):
        evaluate(compose_config(f"ckpt={path}", f"paths.run_dir={tmp_path / 'e'}", *QUIET, name="evaluate"))
    assert not (tmp_path / "ran").exists()


def test_a_saved_folder_cannot_either_nor_trust_itself(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["fusion"]["_target_"] = "os.system"
    (tmp_path / "config.json").write_text(json.dumps(config | {"trust": ["os"]}))
    with pytest.raises(UserError, match=r"names os\.system"):
        mtlsi_net.load(tmp_path)


@pytest.mark.parametrize("text", ["${oc.create:{_target_:os.getcwd}}", "${oc.env:HOME}", "${hydra.x}"])
def test_interpolations_in_files_are_refused(trained, model, tmp_path, text):
    def change(checkpoint):
        checkpoint["config"]["tasks"]["depth"]["depth_range"] = text

    with pytest.raises(UserError, match="holds an interpolation"):
        mtlsi_net.load(damaged(trained, tmp_path, change))
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config | {"model": text}))
    with pytest.raises(UserError):
        mtlsi_net.load(tmp_path / "saved")


def test_packages_that_the_user_trusts(trained, tmp_path):
    def change(checkpoint):
        checkpoint["config"]["data"]["extra"] = {"_target_": "my_data.Module"}

    path = damaged(trained, tmp_path, change)
    assert mtlsi_net.load(path, trust=["my_data"]).tasks
    with pytest.raises(UserError, match=r"names my_data"):  # and not for ever
        mtlsi_net.load(path)


def test_files_that_are_no_model(trained, tmp_path):
    def forget(checkpoint):
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if "head.refine" not in k}

    with pytest.raises(UserError, match=r"changed\.ckpt does not fit .*another version"):
        mtlsi_net.load(damaged(trained, tmp_path, forget))
    (tmp_path / "random.ckpt").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(UserError, match=r"random\.ckpt cannot be read"):
        mtlsi_net.load(tmp_path / "random.ckpt")
    texts = {
        b"hello world\n": "it is no checkpoint",
        b"\x80\x02h\x07.": "complete",
        b"\x80": "complete",
        b"": "complete",
    }
    for content, words in texts.items():  # torch raises a KeyError, KeyError, IndexError and EOFError
        (tmp_path / "text.ckpt").write_bytes(content)
        for read in (mtlsi_net.load, partial(read_weights, "weights_file"), check_resumable):
            with pytest.raises(UserError, match=rf"text\.ckpt cannot be read.*{words}"):
                read(tmp_path / "text.ckpt")
    torch.save({"model": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt was not written by this suite"):
        mtlsi_net.load(tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"neither a run folder .* nor a saved model"):
        mtlsi_net.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        mtlsi_net.load(tmp_path / "nothing.ckpt")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be loaded .*save_pretrained"):
        mtlsi_net.load(tmp_path)


def test_terms_travel_in_the_checkpoint(trained):
    licences = torch.load(trained.checkpoint, weights_only=True)["licences"]
    assert licences["data"].startswith("NYUDv2: ")
    assert licences["backbone"].endswith("trained from scratch")


class Hub:
    """What huggingface_hub sends, kept in a folder instead."""

    sent: Path

    def __init__(self, *_, **__):
        pass

    def create_repo(self, repo_id, **_):
        return type("Repository", (), {"repo_id": repo_id})()

    def upload_folder(self, *, folder_path, repo_id, **_):
        self.sent.joinpath(repo_id).mkdir(parents=True)
        for path in Path(folder_path).iterdir():
            self.sent.joinpath(repo_id, path.name).write_bytes(path.read_bytes())
        return "done"


def test_what_is_pushed_can_be_loaded(model, image, tmp_path, monkeypatch):
    Hub.sent = tmp_path
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    model.push_to_hub("me/rooms")
    assert {path.name for path in (tmp_path / "me" / "rooms").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert_same(mtlsi_net.load(tmp_path / "me" / "rooms", device="cpu").predict(image), model.predict(image))


COMMANDS = sorted(set(re.findall(r"^python -m mtlsi_net\.predict (ckpt=.*?) *(?:#.*)?$", DOCUMENTS, re.MULTILINE)))


@pytest.mark.parametrize("words", COMMANDS, ids=range(len(COMMANDS)))
def test_the_documented_commands(trained, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for path in (Path("photos", "1.jpg"), Path("photo.jpg")):
        Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(path)
    write_clip("clip.mp4", frames=2)
    words = re.sub(r"outputs/\S+?/<time>", str(trained.run.root), words).replace("/path/to/labels", str(trained.data))
    words = words.replace("data/rooms_small/images", "photos")
    done = predict(compose_config("out=out", *words.split(), "progress=false", "device=cpu", name="predict"))
    assert len(done.names) == 1
    (out,) = re.findall(r"\bout=(\w+)", words) or ["out"]
    assert Path(out, "sheets", f"{done.names[0]}.png").is_file()
    assert Path(out, "index.html").is_file() != ("clip.mp4" in words)


def test_there_are_documented_commands():
    assert len(COMMANDS) == 7


def test_a_video_becomes_one_video_for_each_task(trained, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", frames=5, rate=10.0)
    words = (f"ckpt={trained.run.root}", "input=clip.mp4", "out=out", "batch_size=2", "progress=false", "device=cpu")
    done = predict(compose_config(*words, name="predict"))
    assert done.seen.total() == 5
    assert caplog.messages[-1].endswith("results are in out: open out/clip_semseg.mp4")
    model = mtlsi_net.load(trained.run.root, device="cpu")
    assert {path.name for path in Path("out").glob("*.mp4")} == {f"clip_{task}.mp4" for task in model.tasks}
    for task in model.tasks:
        video = Video(Path("out", f"clip_{task}.mp4"))
        assert (video.rate, video.count) == (10.0, 5)
    classes = [np.asarray(frame) for frame in Video(Path("out", "clip_semseg.mp4")).frames()]
    for frame, seen in zip(Video(clip).frames(), classes, strict=True):
        expected = model.predict(frame)["semseg"].pixels().astype(int)
        assert np.abs(seen - expected).mean() < 12  # the video is compressed
    assert Path("out", "sheets", "clip.png").is_file()
    assert json.loads(Path("out", "run.json").read_text())["predicted"] == ["clip"]
    assert not Path("out", "index.html").exists()


def test_what_only_images_have_is_refused_for_a_video(trained, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    words = (f"ckpt={trained.run.root}", f"input={clip}", f"out={tmp_path / 'out'}", "maps=true")
    with pytest.raises(UserError, match="maps=True is for images only; leave it out for a video"):
        predict(compose_config(*words, name="predict"))
    assert not (tmp_path / "out").exists()
