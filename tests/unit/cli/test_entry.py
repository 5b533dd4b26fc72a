import pytest

from mtlsi_net.cli.entry import check_config_dirs, current_choices, current_option
from mtlsi_net.core.errors import UserError


@pytest.mark.parametrize(
    ("command", "word", "today"),
    [
        ("train", "tasks=nyud,rooms", "task_set=nyud,rooms"),
        ("score", "tasks=nyud", "task_set=nyud"),
        ("predict", "keep=[depth]", "tasks=[depth]"),
        *[
            ("train", f"{key}.monitor=val/gain", f"{key}.monitor=val/skill")
            for key in ("callbacks.mine", "+callbacks.x")
        ],
    ],
)
def test_former_options_still_work_with_a_notice(command, word, today, capsys):
    assert current_option(command, word) == today
    assert capsys.readouterr().err == f"note: {word} is now {today}\n"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        *[("predict", "tasks=[depth]"), ("train", "keep=x"), ("compare", "tasks=x"), ("train", "task_set=nyud")],
        *[("train", "tasks.depth.depth_range=[0,5]"), ("train", "~tasks.normals"), ("train", "name=tasks=y")],
        *[("train", "~tasks"), ("train", "tasks")],
    ],
)
def test_all_other_options_stay_as_they_are(command, word, capsys):
    assert current_option(command, word) == word
    assert not capsys.readouterr().err


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_of_choices_in_the_former_layout_ends_in_one_line(tmp_path):
    write(tmp_path / "tasks" / "kitchens.yaml", "defaults: [nyud]")
    with pytest.raises(
        UserError, match="tasks: rename this folder to task_set, and start each file in it with '# @pac"
    ):
        check_config_dirs([str(tmp_path)])
    (tmp_path / "tasks").rename(tmp_path / "task_set")
    with pytest.raises(UserError, match=r"kitchens.yaml: start this file with '# @package tasks'"):
        check_config_dirs([str(tmp_path)])
    write(tmp_path / "task_set" / "kitchens.yaml", "# @package tasks\ndefaults: [nyud]")
    write(tmp_path / "task_set" / "_shared.yaml", "depth: {}")
    write(tmp_path / "experiment" / "mine.yaml", "defaults:\n  - override /tasks: rooms")
    with pytest.raises(UserError, match=r"mine.yaml: replace 'override /tasks:' with 'override /task_set:'"):
        check_config_dirs([str(tmp_path)])
    write(tmp_path / "experiment" / "mine.yaml", "defaults:\n  - override /task_set: rooms")
    check_config_dirs([str(tmp_path), str(tmp_path / "absent")])


def test_former_choices_still_work_with_a_notice(capsys):
    assert current_choices("ablation=[fusion_convs,no_aux]") == "ablation=[blocks_011,no_aux]"
    assert "ablation=fusion_convs is now ablation=blocks_011" in capsys.readouterr().err
    for word in ("ablation=grid_tokens_convs", "name=fusion_convs", "--cfg", "ablation=full"):
        assert current_choices(word) == word
    assert not capsys.readouterr().err
