import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.miniature import compose_config
from helpers.pascal_miniature import BODY, CASES, SIZE, fill, write_pascal_miniature
from helpers.samples import loaded
from helpers.vectors import expected
from PIL import Image
from scipy import io
from skimage.morphology import thin as skimage_thin

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.cache import LabelCache
from mtlsi_net.data.decoding import batch_values, label_values
from mtlsi_net.data.pascal import NO_NORMAL, PascalDataModule, PascalReader
from mtlsi_net.data.pascal_labels import NORMALS_CLASSES, PARTS, boundaries, has_normals, read_label_map, read_parts
from mtlsi_net.data.sampling import Draw
from mtlsi_net.engine.build import build_tasks

VECTORS = np.load(Path(__file__).parents[2] / "fixtures" / "metric_vectors.npz")
SPECS = {name: task.target for name, task in build_tasks(compose_config("task_set=pascal")).items()}


@pytest.fixture
def root(tmp_path):
    return write_pascal_miniature(tmp_path / "data")


def reader_of(root, names=tuple(SPECS), **options):
    return PascalReader(root, {name: SPECS[name] for name in names}, **options)


def data_module(root, names=tuple(SPECS), **options):
    arguments = {"size": (64, 64), "batch_size": 2, "crop_guide": SPECS["semseg"], **options}
    module = PascalDataModule(str(root), {name: SPECS[name] for name in names}, **arguments)
    module.setup()
    return module


def label(root, name, sample_id):
    return reader_of(root, [name]).read(sample_id)[name]


def test_vector_pascal_edge_from_labelmap():
    edge = boundaries(VECTORS["pascal_labelmap"])
    np.testing.assert_array_equal(edge, VECTORS["pascal_edge_from_labelmap"])
    assert edge.sum() == expected()["pascal_edge_from_labelmap_pixel_count"]


def test_vector_pascal_normals_masked(tmp_path):
    for folder, name in (("normals_distill", "a.png"), ("pascal-context/trainval", "a.mat"), ("JPEGImages", "a.jpg")):
        (tmp_path / folder).mkdir(parents=True)
        path = tmp_path / folder / name
        if name.endswith("mat"):
            io.savemat(path, {"LabelMap": VECTORS["pascal_labelmap"]})
        else:
            Image.fromarray(VECTORS["pascal_normals_png"]).save(path)
    normals = label(tmp_path, "normals", "a")
    expected, target = (
        VECTORS["pascal_normals_masked"],
        label_values(normals, SPECS["normals"]).permute(1, 2, 0).numpy(),
    )
    none = np.linalg.norm(expected, axis=2) < 0.5
    np.testing.assert_array_equal((target == 255).all(axis=2), none)
    np.testing.assert_allclose(target[~none], expected[~none], atol=2e-7)


def test_vector_pascal_classes_with_normals():
    assert len(set(NORMALS_CLASSES)) == expected()["pascal_normals_valid_class_count"]
    for number, valid in expected()["pascal_labels_valid_for_normals"].items():
        assert has_normals(np.array([[int(number)]], np.uint16)).item() == valid


@pytest.mark.parametrize("seed", range(4))
def test_boundaries_are_the_thinned_cells_whose_laplacian_is_not_zero(seed):
    """Against the definition written out, reflected border included, and scikit-image's thinning."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 460, (5, 6)).repeat(5, 0).repeat(4, 1).astype(np.uint16)
    wide = np.pad(labels.astype(int), 1, mode="reflect")
    laplacian = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * labels
    np.testing.assert_array_equal(boundaries(labels), skimage_thin(laplacian != 0))


def test_semseg_prefers_vocs_label_and_keeps_void(root):
    voc = label(root, "semseg", "2008_000001")
    stored = np.asarray(Image.open(root / "semseg/VOC12/2008_000001.png"))
    np.testing.assert_array_equal(voc[..., 0], stored)
    assert set(np.unique(voc)) == {0, 15, 255}
    assert set(np.unique(label(root, "semseg", "2008_000004"))) == {0, 8}
    Image.fromarray(np.full(SIZE, 3, np.uint8)).save(root / "semseg/pascal-context/2008_000001.png")
    np.testing.assert_array_equal(label(root, "semseg", "2008_000001"), voc)


def test_all_24_part_names_fall_into_six_parts():
    assert len(PARTS) == 24
    assert [list(PARTS.values()).count(part) for part in range(1, 7)] == [10, 2, 2, 4, 2, 4]


def drawn(size, *boxes):
    """Return a map with each (class, box) drawn over what came before."""
    parts = np.zeros(size, np.float32)
    for value, (top, left, bottom, right) in boxes:
        parts[top:bottom, left:right] = value
    return parts


BODY_VALUES = (2, 2, 1, 1, 3, 4, 5, 6)  # of BODY's parts, from the protocol's table
BODY_BOXES = [(value, box) for value, (_, box) in zip(BODY_VALUES, BODY, strict=True)]


@pytest.mark.parametrize(
    ("sample_id", "boxes"),
    [
        ("2008_000001", BODY_BOXES),
        ("2008_000002", [*BODY_BOXES, (2, (8, 30, 24, 46))]),
        ("2008_000003", []),
        ("2008_000004", []),
        ("2008_000005", []),
        ("2008_000006", []),
        ("2009_000001", [(1, (0, 0, 4, 4)), (2, (10, 10, 20, 20))]),
        ("2009_000002", BODY_BOXES),
    ],
)
def test_human_parts_are_drawn_in_file_order(root, sample_id, boxes):
    parts = label(root, "human_parts", sample_id)[..., 0]
    np.testing.assert_array_equal(parts, drawn(CASES[sample_id].size, *boxes))
    target = data_module(root, ["human_parts"]).datasets["train"].reader.specs["human_parts"]
    assert target.invalid == "background_only"


def test_images_without_parts_are_unlabelled_as_a_whole(root):
    dataset = data_module(root).datasets["train_plain"]
    unlabelled = [bool((loaded(dataset, k)["targets"]["human_parts"] == 255).all()) for k in range(6)]
    assert unlabelled == [False, False, True, True, True, True]


def test_normals_stand_on_classes_of_nyu_only(root):
    normals = label(root, "normals", "2008_000001")  # wall and tree
    assert (normals[:, SIZE[1] // 2 :] == NO_NORMAL).all()
    assert normals[3, 3].tolist() == [127, 140, 254]
    monitor = label(root, "normals", "2009_000001")  # tvmonitor and unknown
    assert (monitor[:, : SIZE[1] // 2] != NO_NORMAL).all()
    assert (monitor[:, SIZE[1] // 2 :] == NO_NORMAL).all()
    target = data_module(root).datasets["train"].labels(4)["normals"]  # no class of NYU's at all
    assert (target == 255).all()


def test_saliency_begins_at_128(root):
    saliency = label(root, "saliency", "2008_000001")[..., 0]
    np.testing.assert_array_equal(saliency, 255 * fill(SIZE, (10, 0, 20, SIZE[1])))


def test_boundary_of_two_halves_is_one_line(root):
    boundary = label(root, "boundary", "2008_000001")[..., 0] // 255
    beside = boundary[:, SIZE[1] // 2 - 1 : SIZE[1] // 2 + 1]
    assert boundary.sum() == beside.sum() <= SIZE[0]
    assert (beside.sum(1) == 1)[1:-1].all()


def test_batches_of_portrait_and_landscape_images_have_one_size(root):
    batch = batch_values(next(iter(data_module(root, eval_batch_size=2).val_dataloader())), SPECS)
    assert batch["image"].shape == (2, 3, 64, 64)
    assert batch["valid"].sum(dim=(1, 2, 3)).tolist() == [SIZE[0] * SIZE[1]] * 2
    for name, target in batch["targets"].items():
        assert (target[(~batch["valid"]).expand_as(target)] == 255).all(), name


def test_training_batches_are_augmented(root):
    batch = next(iter(data_module(root).train_dataloader()))
    assert {name: t.shape[1] for name, t in batch["targets"].items()} == {n: s.channels for n, s in SPECS.items()}
    assert batch["image"].shape == (2, 3, 64, 64)


# -- cache ------------------------------------------------------------------------------------------------------------


def test_computed_labels_are_kept_outside_the_data_set_and_equal(root, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    fresh = reader_of(root).read("2008_000002")
    cache = tmp_path / "cache"
    first, kept = (reader_of(root, cache=LabelCache(cache)).read("2008_000002") for _ in range(2))
    for name in fresh:
        np.testing.assert_array_equal(first[name], fresh[name])
        np.testing.assert_array_equal(kept[name], fresh[name])
    assert sorted(path.parent.name for path in cache.rglob("*.*")) == ["boundary", "has_normals", "human_parts"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_unusable_cache_folder_is_done_without(root, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    sample = reader_of(root, cache=LabelCache(tmp_path / "file" / "cache")).read("2008_000001")
    np.testing.assert_array_equal(sample["boundary"], label(root, "boundary", "2008_000001"))
    assert "cannot cache more maps" in caplog.text


# -- bad files --------------------------------------------------------------------------------------------------------


def png(file, array):
    return lambda root: Image.fromarray(array).save(root / file)


def mat(file, **arrays):
    return lambda root: io.savemat(root / file, arrays)


def truncate(file):
    def spoil(root):
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) * 3 // 5])

    return spoil


def one_person(part, size=SIZE):
    from helpers.pascal_miniature import Case, Thing, annotation

    return annotation(Case([Thing(15, (2, 2, 9, 9), [(part, (2, 2, 5, 5))])], size=size), "x")


MAP, PART_FILE = "pascal-context/trainval/2008_000001.mat", "human_parts/2008_000001.mat"
GET, REPLACE, RESIZE = "get PASCALContext.tar.gz", "replace the file from its source", "store them at the image's size"
VOC, SPLIT = "semseg/VOC12/2008_000001.png", "ImageSets/Context/val.txt"
BAD_FILES = [
    (truncate("JPEGImages/2008_000001.jpg"), "JPEGImages/2008_000001.jpg: cannot be read", REPLACE),
    (truncate(VOC), f"{VOC}: cannot be read", REPLACE),
    (truncate(MAP), f"{MAP}: cannot be read as .mat", REPLACE),
    (truncate(PART_FILE), f"{PART_FILE}: cannot be read as .mat", REPLACE),
    (lambda root: (root / MAP).write_bytes(b""), f"{MAP}: cannot be read as .mat", REPLACE),
    (mat(MAP, Other=np.ones(SIZE)), f"{MAP}: contains no 'LabelMap'", REPLACE),
    (mat(MAP, LabelMap=np.full(SIZE, 460)), f"{MAP}.*holds 460.*1 to 459", REPLACE),
    (mat(MAP, LabelMap=np.full(SIZE, -1)), f"{MAP}.*holds -1", REPLACE),
    (mat(MAP, LabelMap=np.full(SIZE, 1.5)), f"{MAP}.*holds 1.5", REPLACE),
    (mat(MAP, LabelMap="text"), f"{MAP}.*expected a 2-D map", REPLACE),
    (mat(MAP, LabelMap=np.ones((9, 9), np.uint16)), f"{MAP}.*9x9 pixels for an image of 40x56", RESIZE),
    (mat(PART_FILE, anno=np.ones((3, 3))), f"{PART_FILE}.*not a PASCAL-Part structure", REPLACE),
    (mat(PART_FILE, anno={"a": 1}), f"{PART_FILE}.*not a PASCAL-Part structure", REPLACE),
    (mat(PART_FILE, anno=one_person("tail")), f"{PART_FILE}.*unknown part 'tail'", "(known:|did you mean)"),
    (mat(PART_FILE, anno=one_person("head", (20, 20))), f"{PART_FILE}.*20x20 pixels for an image of 40x56", RESIZE),
    (png(VOC, np.full(SIZE, 21, np.uint8)), f"{VOC}: class value 21.*0 to 20", "another label set"),
    (png(VOC, np.zeros((80, 112), np.uint8)), f"{VOC}.*80x112 pixels", RESIZE),
    (
        png("sal_distill/2008_000001.png", np.full((*SIZE, 3), (0, 9, 255), np.uint8)),
        "sal_distill.*single-channel",
        "store one byte",
    ),
    (png("normals_distill/2008_000001.png", np.zeros((9, 9, 3), np.uint8)), "normals_distill.*9x9 pixels", RESIZE),
    (lambda root: (root / PART_FILE).unlink(), f"human_parts: 1, {PART_FILE}", f"{GET}.*~tasks.human_parts"),
    (lambda root: (root / "JPEGImages/2008_000001.jpg").unlink(), "image: 1, JPEGImages/2008_000001.jpg", GET),
    (lambda root: (root / SPLIT).write_text(""), "val.txt lists no images", GET),
    (
        lambda root: (root / SPLIT).write_text("2009_000001 " * 2),
        "val.txt lists some ids more than once",
        "remove the duplicates",
    ),
    (lambda root: (root / SPLIT).write_bytes(b"\xff\xfe\x80"), "val.txt: cannot be read", "fix its permissions"),
    (lambda root: (root / SPLIT).unlink(), "val.txt is missing", GET),
]


@pytest.mark.parametrize(("spoil", "what", "remedy"), BAD_FILES)
def test_bad_files_are_named_with_the_remedy(root, spoil, what, remedy):
    spoil(root)
    with pytest.raises(UserError) as error:
        data_module(root).datasets["train_plain"][Draw(0, 0)]
    assert re.fullmatch(f".*{what}.*{remedy}.*", str(error.value)), error.value  # a dot is no line break: one line


def test_files_that_went_missing_after_the_check_are_named(tmp_path):
    for read in (read_label_map, lambda path: read_parts(path, SIZE)):
        with pytest.raises(UserError, match=r"gone.mat: file is missing"):
            read(tmp_path / "gone.mat")


def test_tasks_without_labels_here_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"task 'depth': this data set has no labels"):
        PascalReader(tmp_path, {"depth": TargetSpec(1, "scalar")})


def test_shipped_lists_are_the_official_ones():
    from importlib import resources

    folder = resources.files("mtlsi_net.data").joinpath("splits")
    train, val, scored = (
        folder.joinpath(f"pascal_{name}.txt").read_text().split() for name in ("train", "val", "test_new")
    )
    assert (len(train), len(val), len(scored)) == (4998, 5105, 2498)
    assert len({*train, *val}) == 4998 + 5105
    assert set(scored) < set(val)


def test_real_photographs_have_the_stated_labels(real_data):
    root = real_data / "PASCALContext_mini"
    names = [name for name in SPECS if name != "normals"]
    module = data_module(root, names, size=(512, 512), batch_size=1)
    assert {split: len(module.datasets[split]) for split in ("train", "val")} == {"train": 12, "val": 6}
    people = 0
    for split in ("train_plain", "val"):
        for index in range(len(module.datasets[split])):
            sample = loaded(module.datasets[split], index)
            inside, targets = sample["valid"], sample["targets"]
            people += bool((targets["human_parts"] != 255).any())
            assert 0 < (targets["boundary"][inside] == 1).float().mean() < 0.2
            salient, objects = targets["saliency"][inside] == 1, targets["semseg"][inside] > 0
            assert torch.equal(salient, objects)  # how this set's saliency was made
            parts = targets["human_parts"][inside]
            on_person = targets["semseg"][inside][(parts > 0) & (parts != 255)] == 15
            assert on_person.float().mean() > 0.9 or not len(on_person)
    assert people == 8


@pytest.mark.parametrize("stored", [np.full(SIZE, 21, np.uint8), np.full((*SIZE, 3), (0, 9, 255), np.uint8)])
def test_a_wrong_class_map_names_no_setting_that_this_data_set_does_not_have(root, stored):
    Image.fromarray(stored).save(root / "semseg" / "VOC12" / "2008_000001.png")
    with pytest.raises(UserError, match=r"VOC12/2008_000001.png: (class value 21|.* with colours)") as error:
        label(root, "semseg", "2008_000001")
    assert "zero_based" not in str(error.value)
    assert "palette" not in str(error.value)
