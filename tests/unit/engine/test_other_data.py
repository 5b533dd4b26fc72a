import pytest

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.other_data import match_tasks, read_class_maps
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.depth import DepthTask, DisparityTask
from mtlsi_net.tasks.mapped import MappedSemsegTask
from mtlsi_net.tasks.normals import NormalsTask
from mtlsi_net.tasks.saliency import SaliencyTask
from mtlsi_net.tasks.semseg import SemsegTask


def test_tasks_match_by_name_and_reasons_are_given_for_the_others():
    trained = {"semseg": SemsegTask("nyu13"), "depth": DepthTask(), "mask": SaliencyTask(), "edge": BoundaryTask()}
    scored = {
        "semseg": SemsegTask("nyu13", mtan_batch=2),
        "depth": DisparityTask(),
        "mask": BoundaryTask(),
        "n": NormalsTask(),
    }
    match = match_tasks(trained, scored, {})
    assert match.tasks == {"semseg": scored["semseg"]}
    assert match.differences == [
        "semseg: metric rules differ in delta_m, mtan_batch",
        "depth: not scored, the checkpoint predicts m, the data holds disparity",
        "mask: not scored, the checkpoint has other outputs",
        "edge: not scored, the data has no such task",
        "n: not scored, the checkpoint has no such task",
    ]


def test_class_lists_that_differ_need_a_mapping_unless_only_their_order_does():
    trained = {"semseg": SemsegTask(["wall", "oven", "sofa"]), "depth": DepthTask()}
    scored = {"semseg": SemsegTask(["sofa", "wall"]), "depth": DepthTask()}
    match = match_tasks(trained, scored, {})
    assert list(match.tasks) == ["depth"]
    assert match.differences[0].startswith(
        "semseg: not scored, class lists differ (3 classes in the checkpoint, 2 in the data)"
    )
    mapped = match_tasks(trained, scored, {"semseg": {"oven": None}})
    assert isinstance(mapped.tasks["semseg"], MappedSemsegTask)
    assert "semseg: predictions are left out of oven, which stand for none" in mapped.differences
    reordered = match_tasks(trained, {"semseg": SemsegTask(["sofa", "oven", "wall"])}, {})
    assert isinstance(reordered.tasks["semseg"], MappedSemsegTask)


def test_without_a_common_task_all_reasons_are_in_the_error():
    with pytest.raises(
        UserError, match=r"no task .* \(depth: not scored, the data has no such task; normals: not scored"
    ):
        match_tasks({"depth": DepthTask()}, {"normals": NormalsTask()}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("semseg: [wall]", "has another form; write task: {class of the checkpoint"),
        ("wall: floor", "has another form"),
        ("semseg: {wall: 3}", "has another form"),
        ("semseg: {wall", "cannot be read"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as found:
        read_class_maps(tmp_path / "map.yaml")
    assert "\n" not in str(found.value)


def test_mappings_are_read_and_name_tasks_of_the_checkpoint(tmp_path):
    (tmp_path / "map.yaml").write_text("semseg:\n  wall: null\n  oven: floor\n")
    maps = read_class_maps(tmp_path / "map.yaml")
    assert maps == {"semseg": {"wall": None, "oven": "floor"}}
    with pytest.raises(UserError, match=r"map.yaml cannot be read|gone.yaml cannot be read"):
        read_class_maps(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match=r"class_map: task=semseg is not known"):
        match_tasks({"depth": DepthTask()}, {"depth": DepthTask()}, maps)
    trained, scored = {"semseg": SemsegTask(["wall", "oven"])}, {"semseg": SemsegTask(["table", "floor"])}
    with pytest.raises(
        UserError, match=r"class_map: semseg: class 'oven' is none|class_map: semseg: class 'lamp' is none"
    ):
        match_tasks(trained, scored, {"semseg": {"lamp": "floor"}})
