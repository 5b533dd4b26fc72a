import math

import pytest
from helpers.miniature import compose_config
from helpers.run_folders import make_run

from mtlsi_net.comparison.gains import find_gain
from mtlsi_net.comparison.identity import deviation, group_seeds, mean

SINGLE = compose_config("model=single_task").model._target_


def gain_of_first(*runs):
    groups, _ = group_seeds(runs)
    return find_gain(groups[0], groups)


@pytest.fixture
def multi(tmp_path):
    return make_run(tmp_path / "multi", {"semseg": {"mIoU": 0.55}, "depth": {"rmse": 0.63}})


def single(folder, task, metric, value, config=None, **rest):
    return make_run(
        folder / f"single_{task}",
        {task: {metric: value}},
        {"name": f"single_{task}", "model.x": task} | (config or {}),
        **rest,
    )


def test_gain_over_single_task_runs_by_hand(tmp_path, multi):
    gain = gain_of_first(multi, single(tmp_path, "semseg", "mIoU", 0.5), single(tmp_path, "depth", "rmse", 0.6))
    assert mean(gain.seeds) == pytest.approx((0.05 / 0.5 - 0.03 / 0.6) / 2)  # +10 % and -5 %: +2.5 %
    assert math.isnan(deviation(gain.seeds))
    assert gain.why == ""
    assert {name: group.label for name, group in gain.references.items()} == {
        "semseg/mIoU": "single_semseg",
        "depth/rmse": "single_depth",
    }


def test_gain_over_a_network_of_independent_networks_and_its_seeds(tmp_path):
    config = {"model": {"_target_": SINGLE}}
    references = [
        make_run(
            tmp_path / f"r{seed}",
            {"semseg": {"mIoU": value}, "depth": {"rmse": 0.5}},
            config | {"seed": seed, "name": "single"},
        )
        for seed, value in enumerate((0.4, 0.6))  # mean 0.5
    ]
    runs = [
        make_run(tmp_path / f"m{seed}", {"semseg": {"mIoU": value}, "depth": {"rmse": 0.5}}, {"seed": seed})
        for seed, value in enumerate((0.6, 0.7))
    ]
    gain = gain_of_first(*runs, *references)
    assert mean(gain.seeds) == pytest.approx((0.1 + 0.2) / 2)  # 0.2 / 2 and 0.4 / 2
    assert deviation(gain.seeds) == pytest.approx(0.1 / math.sqrt(2))
    assert gain_of_first(*references, *runs).why == "a single-task reference itself"


@pytest.mark.parametrize(
    ("config", "rest", "why"),
    [
        ({"backbone.name": "huge"}, {}, "single_depth: backbone.name=huge instead of tiny"),
        ({}, {"record": {"data.parts.depth": "f" * 64}}, "single_depth: other labels of depth"),
        ({}, {"record": {"data.parts.image": "f" * 64}}, "single_depth: other images"),
        ({}, {"record": {"protocol": "2"}}, "single_depth: other protocol"),
        ({}, {"record": {"metrics.depth": {"cap": 10}}}, "single_depth: other metric of depth"),
        ({}, {"stage": "dev"}, "single_depth: other scored images"),
        ({}, {"record": {"data": {}}}, "single_depth: run.json does not identify its data"),
    ],
)
def test_references_that_do_not_fit_are_refused_with_the_reason(tmp_path, multi, config, rest, why):
    gain = gain_of_first(
        multi, single(tmp_path, "semseg", "mIoU", 0.5), single(tmp_path, "depth", "rmse", 0.6, config, **rest)
    )
    assert math.isnan(mean(gain.seeds))
    assert f"no matching single-task run of depth ({why}" in gain.why
    assert "semseg" not in gain.why


def test_another_image_size_of_the_same_backbone_fits(tmp_path, multi):
    sized = single(tmp_path, "depth", "rmse", 0.6, {"backbone.image_size": [96, 128]})
    assert math.isfinite(mean(gain_of_first(multi, single(tmp_path, "semseg", "mIoU", 0.5), sized).seeds))


def test_missing_references_are_named(multi):
    gain = gain_of_first(multi)
    assert gain.why == "no single-task runs among these"


def test_the_reference_of_the_nearest_recipe_is_taken_and_its_differences_told(tmp_path, multi):
    semseg = single(tmp_path, "semseg", "mIoU", 0.5)
    far = single(tmp_path / "far", "depth", "rmse", 0.1, {"trainer.max_steps": 5, "trainer.precision": 16})
    near = single(tmp_path / "near", "depth", "rmse", 0.6, {"trainer.max_steps": 50})
    gain = gain_of_first(multi, semseg, far, near)
    assert gain.references["depth/rmse"].first is near
    assert gain.why == "its references differ in trainer.max_steps"


def test_independent_networks_are_the_reference_of_all_rows_where_one_task_runs_are_as_near(tmp_path, multi):
    own = [single(tmp_path, "semseg", "mIoU", 0.5), single(tmp_path, "depth", "rmse", 0.6)]
    scores = {"semseg": {"mIoU": 0.4}, "depth": {"rmse": 0.7}}
    together = make_run(tmp_path / "all", scores, {"name": "all", "model": {"_target_": SINGLE}})
    gain = gain_of_first(multi, *own, together)
    assert {group.label for group in gain.references.values()} == {"all"}


def test_a_subset_score_is_no_reference_of_the_whole(tmp_path):
    multi = make_run(tmp_path / "m", {"semseg": {"mIoU": 0.5}, "boundary": {"odsF": 0.5}})
    references = [single(tmp_path, "semseg", "mIoU", 0.5), single(tmp_path, "boundary", "odsF_partial", 0.5)]
    assert "odsF_partial instead of odsF" in gain_of_first(multi, *references).why


def test_no_gain_without_a_finite_score_or_on_a_reference_of_zero(tmp_path, multi):
    depth = single(tmp_path, "depth", "rmse", 0.6)
    assert (
        gain_of_first(multi, single(tmp_path / "a", "semseg", "mIoU", None), depth).why
        == "not finite: semseg mIoU of single_semseg"
    )
    assert "reference score is 0" in gain_of_first(multi, single(tmp_path / "b", "semseg", "mIoU", 0.0), depth).why


def test_no_gain_where_data_or_backbone_are_not_known(tmp_path):
    unknown = make_run(tmp_path / "a", record={"data": {}})
    assert gain_of_first(unknown).why == "run.json does not identify its data"
    assert gain_of_first(make_run(tmp_path / "b", config={"backbone": None})).why == "its backbone is unknown"


RULES = {"semseg": {"delta_m": {"mIoU": True}}, "depth": {"delta_m": {"abs_err_mtan": False, "abs_rel_mtan": False}}}


def mtan_run(folder, iou, errors, config):
    depth = dict(zip(("abs_err", "abs_rel", "abs_err_mtan", "abs_rel_mtan"), errors, strict=True))
    main = {
        "semseg": {"metric": "mIoU", "higher_is_better": True},
        "depth": {"metric": "abs_err", "higher_is_better": False},
    }
    return make_run(folder, {"semseg": {"mIoU": iou}, "depth": depth}, config, {"metrics": RULES, "main": main})


def test_deltas_of_the_task_balancing_literature_by_hand(tmp_path):
    single = mtan_run(tmp_path / "s", 0.5, (1.0, 0.5, 2.0, 0.4), {"model": {"_target_": SINGLE}, "name": "single"})
    multi = mtan_run(tmp_path / "m", 0.6, (0.9, 0.6, 1.8, 0.5), {})
    gain = gain_of_first(multi, single)
    assert gain.percents["delta_m"] == pytest.approx(((-20 - 10 + 25) / 3,))
    assert gain.percents["delta_p"] == pytest.approx(((20 + (10 - 20) / 2) / 2,))
    assert gain_of_first(single, multi).percents == {}


def test_data_without_such_rules_have_no_deltas(tmp_path, multi):
    gain = gain_of_first(multi, single(tmp_path, "semseg", "mIoU", 0.5), single(tmp_path, "depth", "rmse", 0.6))
    assert gain.percents == {}
