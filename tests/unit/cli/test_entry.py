"""The help of every command, against what Hydra composes."""

from pathlib import Path

import pytest
from helpers.miniature import compose_config

from mtlsi_net.cli.entry import current_choices, help_text, tasks_as_names

CONF = Path(__file__).parents[3] / "conf"
ENTRIES = sorted(path.stem for path in CONF.glob("[!_]*.yaml"))


@pytest.mark.parametrize("name", ENTRIES)
def test_help_names_every_setting_and_every_choice(name):
    text = help_text(name)
    assert text.startswith(f"python -m mtlsi_net.{name} ")
    given = ["data=nyud"] if name in ("score", "download", "verify_data") else []
    for key in compose_config(*given, name=name):
        assert f"\n{key}:" in text or f"\n{key}=" in text or key in ("paths", "source"), key
    for group in CONF.iterdir():
        if group.is_dir() and f"\n{group.name}=" in text:
            for choice in group.glob("[!_]*.yaml"):
                assert choice.stem in text
    assert "hydra:" not in text


def test_help_names_choices_of_ones_own(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kitchens.yaml").touch()
    assert "kitchens" in help_text("train", [str(tmp_path)])
    assert "kitchens" not in help_text("train", [str(tmp_path / "none")])


def test_tasks_of_a_model_are_no_group():
    assert tasks_as_names(["ckpt=x", "tasks=[depth]", "out=tasks=y"]) == ["ckpt=x", "keep=[depth]", "out=tasks=y"]


def test_former_choices_still_work_with_a_notice(capsys):
    assert current_choices("ablation=[fusion_convs,no_aux]") == "ablation=[blocks_011,no_aux]"
    assert "ablation=fusion_convs is now ablation=blocks_011" in capsys.readouterr().err
    for word in ("ablation=grid_tokens_convs", "name=fusion_convs", "--cfg", "ablation=full"):
        assert current_choices(word) == word
    assert not capsys.readouterr().err
