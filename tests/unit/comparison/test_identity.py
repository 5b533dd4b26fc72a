"""Seeds, labels, what can stand in one table."""

import math
from pathlib import Path

import pytest
import yaml
from helpers.run_folders import make_run

from mtlsi_net.comparison.identity import (
    deviation,
    group_seeds,
    main_metrics,
    mean,
    split_groups,
)
from mtlsi_net.core.settings import SETTINGS


def test_seeds_of_one_configuration_are_one_row(tmp_path):
    runs = [
        make_run(
            tmp_path / str(seed),
            {"semseg": {"mIoU": value}},
            {"seed": seed, "data.seed": seed, "paths.run_dir": str(seed)},
        )
        for seed, value in enumerate((0.5, 0.6, 0.7))
    ]
    (group,), skipped = group_seeds(runs)
    assert skipped == []
    assert (group.label, len(group.runs)) == ("toy", 3)
    assert mean(group.values("semseg/mIoU")) == pytest.approx(0.6)
    assert deviation(group.values("semseg/mIoU")) == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)


def test_every_ignored_setting_is_ignored_and_others_are_not(tmp_path):
    changes = {key: "other" for key, setting in SETTINGS.items() if setting.same_row and key not in ("seed", "paths")}
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", config={**changes, "seed": 1})]
    assert len(group_seeds(runs)[0]) == 1
    runs.append(make_run(tmp_path / "c", config={"trainer.max_steps": 101, "seed": 2}))
    assert [group.label for group in group_seeds(runs)[0]] == ["toy", "trainer.max_steps=101"]


def test_the_same_seed_counts_once_and_is_named(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b")]
    (group,), (skipped,) = group_seeds(runs)
    assert len(group.runs) == 1
    assert skipped.name == str(tmp_path / "b")
    assert "seed (0)" in skipped.reason


def test_one_seed_has_no_deviation_and_missing_scores_no_mean(tmp_path):
    runs = [
        make_run(tmp_path / str(seed), {"semseg": {"mIoU": value}}, {"seed": seed})
        for seed, value in ((0, 0.5), (1, None))
    ]
    (group,), _ = group_seeds(runs)
    assert math.isnan(mean(group.values("semseg/mIoU")))
    assert math.isnan(mean(group.values("depth/rmse")))
    (alone,), _ = group_seeds(runs[:1])
    assert math.isnan(deviation(alone.values("semseg/mIoU")))


def test_labels_tell_what_the_command_changed(tmp_path):
    runs = []
    for number, words in enumerate(
        (["experiment=x", "ablation=no_fusion", "seed=3", "data.root=/x"], ["~tasks.depth"])
    ):
        runs.append(make_run(tmp_path / str(number), config={"model.width": number}))
        (tmp_path / str(number) / ".hydra").mkdir()
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    commands = [
        "python -m mtlsi_net.train model=mtlsi_paper seed=1",
        "python -m mtlsi_net.train -m seed=1,2",
        "broken '",
    ]
    for number, command in enumerate(commands, start=2):
        runs.append(make_run(tmp_path / str(number), config={"model.width": number}, record={"command": command}))
    labels = [group.label for group in group_seeds(runs)[0]]
    assert labels == ["ablation=no_fusion", "~tasks.depth", "model=mtlsi_paper", "toy", "model.width=4"]


def test_evaluations_are_labelled_by_what_their_trainings_changed(tmp_path):
    runs = []
    for number, model in enumerate(("plain", "invpt")):
        trained = {"command": f"python -m mtlsi_net.train model={model} seed=1", "commit": "0123abc"}
        record = {"command": "python -m mtlsi_net.evaluate ckpt=RUN data=other", "trained": trained}
        runs.append(make_run(tmp_path / str(number), config={"model.width": number}, record=record))
    assert [group.label for group in group_seeds(runs)[0]] == ["model=plain", "model=invpt"]


def test_what_all_commands_changed_is_not_in_the_labels(tmp_path):
    commands = [f"python -m mtlsi_net.train trainer.max_steps=9 model={name}" for name in ("a", "b")]
    runs = [make_run(tmp_path / c[-1], config={"model.x": c}, record={"command": c}) for c in commands]
    assert [group.label for group in group_seeds(runs)[0]] == ["model=a", "model=b"]


def test_rows_are_named_by_what_differs_unless_their_names_do(tmp_path):
    command = "python -m mtlsi_net.train model=b"
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", config={"model.x": 1}, record={"command": command})]
    assert [group.label for group in group_seeds(runs)[0]] == ["toy", "model=b"]
    runs.append(make_run(tmp_path / "c", config={"name": "other", "model.x": 2}, record={"command": command}))
    assert [group.label for group in group_seeds(runs)[0]] == ["toy", "toy model=b", "other model=b"]


def test_equal_labels_are_told_apart(tmp_path):
    many = {f"model.{letter}": 1 for letter in "abcd"}
    other_data = {"data.parts": {"lists": "x", "image": "y", "semseg": "z", "depth": "d"}}
    runs = [
        make_run(tmp_path / "0"),
        make_run(tmp_path / "1", config=many),
        make_run(tmp_path / "2", record=other_data),
        make_run(tmp_path / "3", record={**other_data, "protocol": "2"}),
    ]
    assert [group.label for group in group_seeds(runs)[0]] == [
        "toy",
        "model.a=1 model.b=1 model.c=1 ...",
        "toy (other data)",
        "toy (other data) #2",
    ]


def test_classes_are_told_by_name_and_what_is_missing_last(tmp_path):
    other = {"model": {"_target_": "a.package.Other", "depth": 2}}
    runs = [make_run(tmp_path / "0"), make_run(tmp_path / "1", config=other)]
    assert [group.label for group in group_seeds(runs)[0]] == ["toy", "model=Other model.depth=2 ~model.width"]


def tables_of(runs):
    return split_groups(group_seeds(runs)[0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"record": {"protocol": "2"}}, "protocol (1 against 2)"),
        ({"record": {"metrics.depth": {"cap": 10}}}, "metric of depth"),
        ({"record": {"data.parts.semseg": "f" * 64}}, "labels of semseg (00000000 against ffffffff)"),
        ({"record": {"data.parts.image": "f" * 64}}, "images (00000000 against ffffffff)"),
        ({"record": {"data.parts.lists": "f" * 64}}, "split lists"),
        ({"record": {"data.scale": 0.5}}, "scale (1.0 against 0.5)"),
        ({"stage": "dev"}, "scored images (val against dev)"),
        ({"record": {"data": {"manifest_sha256": None}}}, "data folder"),
    ],
)
def test_other_data_or_rules_make_another_table(tmp_path, changes, told):
    (_, nothing), (_, differs) = tables_of([make_run(tmp_path / "a"), make_run(tmp_path / "b", **changes)])
    assert nothing == []
    assert told in ", ".join(differs)


def test_runs_of_fewer_tasks_share_the_table(tmp_path):
    ((groups, _),) = tables_of([make_run(tmp_path / "a"), make_run(tmp_path / "b", {"depth": {"rmse": 0.7}})])
    assert main_metrics(groups) == {"semseg/mIoU": True, "depth/rmse": False}


def test_a_difference_from_any_row_of_the_first_table_is_named(tmp_path):
    runs = [make_run(tmp_path / "a", {"semseg": {"mIoU": 0.5}}), make_run(tmp_path / "b", {"depth": {"rmse": 0.7}})]
    other = make_run(tmp_path / "c", {"depth": {"rmse": 0.7}}, record={"metrics.depth": {"cap": 10}})
    (first, _), (second, differs) = tables_of([*runs, other])
    assert (len(first), len(second)) == (2, 1)
    assert "metric of depth" in differs[0]


def test_partial_boundary_scores_have_a_column_of_their_own(tmp_path):
    runs = [
        make_run(tmp_path / name, {"boundary": {metric: 0.5}}, {"model.width": width})
        for name, metric, width in (("a", "odsF", 1), ("b", "odsF_partial", 2))
    ]
    ((groups, _),) = tables_of(runs)
    assert list(main_metrics(groups)) == ["boundary/odsF", "boundary/odsF_partial"]
    assert math.isnan(mean(groups[1].values("boundary/odsF")))


def test_evaluations_of_networks_with_other_training_data_are_other_rows(tmp_path):
    def evaluation(name, **trained):
        settings = {f"trained_data.{key}": value for key, value in trained.items()}
        return make_run(tmp_path / name, {"semseg": {"mIoU": 0.5}}, {"data.augment": False, **settings})

    runs = [
        evaluation("all", root="/here"),
        evaluation("few", root="/here", label_share={"normals": 0.05}),
        evaluation("elsewhere", root="/there"),
    ]
    groups, skipped = group_seeds(runs)
    assert [[run.folder.root.name for run in group.runs] for group in groups] == [["all"], ["few"]]
    assert [Path(item.name).name for item in skipped] == ["elsewhere"], "another place is not other data"


def test_early_stopping_of_any_name_makes_another_row(tmp_path):
    stop = {"callbacks.stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/skill"}}
    timer = {"callbacks.timer": {"_target_": "lightning.pytorch.callbacks.Timer"}}
    runs = [make_run(tmp_path / name, config=config) for name, config in (("a", {}), ("b", stop), ("c", timer))]
    groups, skipped = group_seeds(runs)
    assert [group.first.name for group in groups] == [runs[0].name, runs[1].name]
    assert [item.name for item in skipped] == [runs[2].name]


def test_a_callback_that_a_row_lacks_is_named_as_a_whole(tmp_path):
    stop = {"callbacks.stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "x", "patience": 3}}
    other = {"callbacks.timer": {"_target_": "lightning.pytorch.callbacks.Timer"}}
    groups, _ = group_seeds([make_run(tmp_path / "a", config=stop | other), make_run(tmp_path / "b", config=other)])
    assert [group.label for group in groups] == ["toy", "~callbacks.stop"]


def test_unknown_data_equals_nothing_known(tmp_path):
    folder = make_run(tmp_path / "a").folder.root
    (folder / "run.json").unlink()
    runs = [make_run(tmp_path / "b"), make_run(tmp_path / "c", record={"data.parts": 3})]
    assert [group.known for group in group_seeds(runs)[0]] == [True, False]
    assert len(tables_of(runs)) == 2


def test_speed_needs_steps_batch_and_time(tmp_path):
    def speed(**changes):
        return make_run(tmp_path / "a", **changes).training_speed

    assert speed() == 100 * 4 / 40
    assert math.isnan(speed(record={"seconds": 3}))
    (tmp_path / "a" / "metrics_1.csv").touch()
    (tmp_path / "a" / "metrics.csv").touch()
    assert math.isnan(speed())  # resumed: the seconds are of the last part
    (tmp_path / "a" / "metrics_1.csv").unlink()
    assert math.isnan(speed(record={"resumed": [{"step": 90, "changed": {}}]}))
    assert math.isnan(speed(record={"extends": {"step": 50}}))
    assert math.isnan(speed(config={"callbacks.stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping"}}))
    assert math.isnan(speed(record={"seconds": {"fit": 0}}))
