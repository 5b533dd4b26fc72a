"""What is read, and what is named and left out."""

import json

import pytest
from helpers.run_folders import make_run, write_run

from mtlsi_net.comparison.read import find_folders, read_curves, read_run, read_runs
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import flatten
from mtlsi_net.core.run_folder import histories


def test_folders_globs_and_sweeps_are_found_once(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("sweep/0", "sweep/1", "alone")]
    (tmp_path / "sweep" / ".hydra").mkdir()
    (tmp_path / "sweep" / ".hydra" / "config.yaml").write_text("x: 1")
    (runs[0] / "wandb" / "files").mkdir(parents=True)
    (runs[0] / "wandb" / "files" / "config.yaml").write_text("x: 1")
    found, skipped = find_folders([str(tmp_path / "sweep"), str(tmp_path / "*" / "1"), str(tmp_path / "al*")])
    assert found == runs
    assert skipped == []


def test_what_matches_nothing_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    _, skipped = find_folders([str(tmp_path / "nowhere*"), str(tmp_path / "empty")])
    assert [(item.name.rpartition("/")[2], item.reason) for item in skipped] == [
        ("nowhere*", "no folder matches"),
        ("empty", "contains no run folder"),
    ]


def damage(folder, name, text):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("metrics.json", None, "unfinished: no metrics.json"),
        ("metrics.json", "{half", "metrics.json cannot be read"),
        ("metrics.json", "[]", "is not a mapping of names to values"),
        ("metrics.json", '{"last": {"val": {"semseg": {"mIoU": "high"}}}}', "contains no scores"),
        ("metrics.json", '{"last": {"train": {"semseg": {"mIoU": 0.5}}}}', "contains no scores"),
        ("metrics.json", '{"best": {}}', "no scores of 'last' weights"),
        (
            "metrics.json",
            '{"last": {"val": {"shadow": {"maxF": 0.5}}}}',
            "the main metric of shadow is unknown",
        ),
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("config.yaml", "!!python/object/apply:os.system [true]", "config.yaml cannot be read"),
        ("run.json", "\x00", "run.json cannot be read"),
    ],
)
def test_broken_runs_are_named_with_the_reason(tmp_path, name, text, why):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    (bad / name).unlink() if text is None else damage(bad, name, text)
    runs, skipped = read_runs([good, bad], "last")
    assert [run.folder.root for run in runs] == [good]
    assert skipped[0].name == str(bad)
    assert why in skipped[0].reason
    assert "\n" not in skipped[0].reason


def test_scores_stage_and_main_metrics(tmp_path):
    scores = {"shadow": {"maxF": 0.5, "mine": 3.0}, "boundary": {"odsF_partial": 0.4, "odsF_subset": 0.3}}
    record = {"main": {"shadow": {"metric": "mine", "higher_is_better": False}, "broken": 3}}
    run = make_run(tmp_path / "a", scores, record=record | {"data.parts": {}}, stage="dev")
    assert (run.stage, run.scores) == ("dev", flatten(scores, "/"))
    assert run.main == {"shadow/mine": False, "boundary/odsF_partial": True}
    assert read_run(tmp_path / "a", "best").scores == run.scores


def test_a_run_without_a_record_is_read(tmp_path):
    (write_run(tmp_path / "a") / "run.json").unlink()
    assert read_run(tmp_path / "a").record == {}


CURVES = """step,val/semseg/mIoU,val/boundary/odsF_subset,val/boundary/odsF
10,0.1,0.2,
20,0.3,0.4,
20,0.9,0.9,0.9
"""


def test_curves_are_those_of_training(tmp_path):
    scores = {"semseg": {"mIoU": 0.9}, "boundary": {"odsF": 0.9}}
    run = make_run(tmp_path / "a", scores, curves=CURVES)
    expected = {"semseg mIoU": [(10, 0.1), (20, 0.3)], "boundary odsF_subset": [(10, 0.2), (20, 0.4)]}
    assert read_curves(run) == expected
    assert read_curves(make_run(tmp_path / "b")) == {}


def test_curves_of_a_resumed_run_are_joined(tmp_path):
    run = make_run(tmp_path / "a", {"semseg": {"mIoU": 0.9}}, curves="step,val/semseg/mIoU\n20,0.25\n30,0.5\n")
    for part, text in ((1, "10,0.1\n20,0.2\n"), (2, "15,0.15\n"), (10, "16,0.16\n")):
        (run.folder.root / f"metrics_{part}.csv").write_text(f"step,val/semseg/mIoU\n{text}")
    assert [path.name for path in histories(run.folder)] == [f"metrics{end}.csv" for end in ("_1", "_2", "_10", "")]
    assert read_curves(run) == {"semseg mIoU": [(10, 0.1), (15, 0.15), (16, 0.16), (20, 0.25), (30, 0.5)]}


def test_long_curves_are_thinned(tmp_path):
    lines = "".join(f"{step},{step / 1000}\n" for step in range(1000))
    run = make_run(tmp_path / "a", {"semseg": {"mIoU": 0.9}}, curves=f"step,val/semseg/mIoU\n{lines}")
    curve = read_curves(run)["semseg mIoU"]
    assert len(curve) == 250
    assert curve[1] == (4, 0.004)


@pytest.mark.parametrize(
    "text", ["step,val/semseg/mIoU\nten,0.1\n", "step,val/semseg/mIoU\n10,high\n", "val/semseg/mIoU\n1\n"]
)
def test_broken_curves_are_an_error_of_their_own(tmp_path, text):
    run = make_run(tmp_path / "a", curves=text)
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read"):
        read_curves(run)


def test_nan_in_the_file_is_not_finite(tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "metrics.json").write_text(json.dumps({"last": {"val": {"semseg": {"mIoU": float("nan")}}}}))
    with pytest.raises(UserError, match="contains no scores"):
        read_run(folder)
