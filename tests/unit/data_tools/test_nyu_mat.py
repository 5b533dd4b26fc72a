import numpy as np
import pytest
from helpers.nyu_mat import scene, write_nyu_mat

from mtlsi_net.core.errors import UserError
from mtlsi_net.data_tools import nyu_mat
from mtlsi_net.data_tools.nyu_mat import LabelledImage, NyuMat, open_labelled


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_nyu_mat(tmp_path_factory.mktemp("mat") / "nyu_depth_v2_labeled.mat", count=5, chunk=2)


def equal(sample, number):
    return all(np.array_equal(own, true) for own, true in zip(sample, scene(number), strict=True))


def test_images_are_read_rows_first(file):
    with open_labelled(file) as labelled:
        assert labelled.count == 5
        assert (len(labelled.names), labelled.names[20], labelled.names[10]) == (894, "wall", "floor")
        read = list(labelled.images(range(5)))
    assert [number for number, _ in read] == list(range(5))
    assert all(equal(sample, number) for number, sample in read)


def test_only_the_images_asked_for_are_read_in_blocks_of_the_files_chunks(file, monkeypatch):
    with open_labelled(file) as labelled:
        asked = []

        class Watched:
            def __init__(self, data):
                self.data, self.chunks = data, data.chunks

            def __getitem__(self, part):
                asked.append((part.start, part.stop))
                return self.data[part]

        monkeypatch.setattr(labelled, "_file", {name: Watched(labelled._file[name]) for name in nyu_mat.ARRAYS})
        read = dict(labelled.images([4, 1, 2]))
    assert sorted(read) == [1, 2, 4]
    assert all(equal(sample, number) for number, sample in read.items())
    assert sorted(set(asked)) == [(1, 2), (2, 3), (4, 5)]  # never more than a chunk of two at once


def files_of(**options):
    return NyuMat(**options).label_files(LabelledImage(*scene(1)))


def test_label_files_are_the_425x560_pixels_of_the_published_copy():
    image, depth, _, labels, _ = scene(1)
    files = files_of()
    assert np.array_equal(files["images"], image[45:470, 40:600])
    assert np.array_equal(files["depth"], depth[45:470, 40:600])
    assert files["depth"].dtype == np.float32
    cut = labels[45:470, 40:600]
    for label, class_40, class_13 in ((21, 1, 12), (11, 2, 5), (5, 5, 4), (0, 0, 0)):
        assert (files["segmentation"][cut == label] == class_40).all()
        assert (files["segmentation13"][cut == label] == class_13).all()
    assert {files[name].shape[:2] for name in files} == {(425, 560)}
    assert {files[name].dtype for name in files if name != "depth"} == {np.dtype(np.uint8)}
    assert files_of(crop=False)["images"].shape == (480, 640, 3)


def test_raw_depth_keeps_its_holes():
    assert files_of()["depth"].min() > 0
    assert (files_of(depth="raw")["depth"] == 0).sum() == 40 * 50  # 40 of 40 columns and 50 rows of the hole


def test_normals_and_boundaries_of_the_scene():
    files = files_of(crop=False)
    normals = files["normals"] / 127.5 - 1
    np.testing.assert_allclose(normals[150, 100], (0, 0, 1), atol=0.01)  # the wall
    np.testing.assert_allclose(normals[450, 300], (0, 1, 0), atol=0.02)  # the floor
    assert np.linalg.norm(normals[275, 585]) < 0.5, "nothing was measured around the middle of the hole"
    edge = files["edge"]
    assert set(np.unique(edge)) == {0, 255}
    assert (edge[200:330, [149, 269]] == 255).all(), "a chair's sides"
    assert (edge[220, :] > 0).sum() == 4, "two chairs, left and right; the strip lies within the wall"
    assert (edge[359, :490] == 255).all(), "wall and floor"


def test_all_894_labels_fit_16_bits():
    files = files_of(classes=[894])
    assert files["segmentation894"].dtype == np.uint16
    assert np.array_equal(files["segmentation894"], scene(1)[3][45:470, 40:600])
    assert "segmentation" not in files


def test_a_users_mapping_replaces_the_40_classes(tmp_path):
    path = tmp_path / "map.txt"
    path.write_text(" ".join("7" if label == 5 else "0" for label in range(1, 895)))
    files = files_of(class_map=path)
    chairs = scene(1)[3][45:470, 40:600] == 5
    assert np.array_equal(files["segmentation"], np.where(chairs, 7, 0))


def test_a_mapping_without_the_40_classes_that_it_replaces_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"source.class_map replaces the 40 classes; add 40 to source.classes"):
        NyuMat(classes=[13], class_map=tmp_path / "map.txt")


@pytest.mark.parametrize("classes", [[], [41], [40, 40]])
def test_unknown_classes_are_refused(classes):
    with pytest.raises(UserError, match="give one or several of 40, 13, 894"):
        NyuMat(classes=classes)


def test_what_differs_is_said():
    assert len(NyuMat().differences()) == 2
    assert any("missing pixels" in text for text in NyuMat(depth="raw").differences())
    assert any("480x640" in text for text in NyuMat(crop=False).differences())
