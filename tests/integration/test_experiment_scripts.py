"""What experiments/ promises: planned tables are current, and the scripts that read runs are right."""

import importlib.util
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers.miniature import compose_config
from hydra import compose, initialize_config_module

from mtlsi_net.comparison.compare import compare
from mtlsi_net.comparison.published import load_published
from mtlsi_net.comparison.read import find_folders

FOLDER = Path(__file__).parents[2] / "experiments"


def script(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, FOLDER / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_tables_of_the_plan_are_there_with_question_command_cost_and_published_numbers():
    plan = script("plan.py")
    for name in plan.PLANS:
        text = (FOLDER / name / "README.md").read_text()
        assert text == plan.filled(name), f"run python experiments/plan.py: {name}/README.md"
        assert all(f"**{part}" in text for part in ("Question", "Command", "Expected cost", "Published", "Results")), (
            name
        )
    row = next(own for own in load_published() if (own.model, own.data) == ("TaskPrompter", "nyud"))
    text = (FOLDER / "nyud_main" / "README.md").read_text()
    assert f"| {row.scores['semseg/mIoU']:.4g} | {row.scores['depth/rmse']:.4g} |" in text


def test_the_table_of_speed_is_what_the_benchmarks_left():
    how_fast = script("scaling/how_fast.py")
    text = how_fast.PAGE.read_text()
    assert text == how_fast.filled(text), "run python experiments/scaling/how_fast.py"
    assert how_fast.table() in text


def test_the_table_of_speed_takes_a_gpus_results_once_they_are_there(tmp_path, monkeypatch):
    how_fast = script("scaling/how_fast.py")
    assert how_fast.on_a_gpu().startswith("not run")
    monkeypatch.setattr(how_fast, "GPU", tmp_path)
    files = {
        "train_vit_l/model.csv": "model,train step ms,decoder % of step,train TFLOP/s,% of peak\nmtlsi,250.4,29.6,300.5,\n",
        "memory_vit_l/memory.csv": f"model,measured peak MiB\nmtlsi,20000\n{how_fast.CHECKPOINTED},10000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    expected = "decoder 30 % of 250 ms, 300.5 TFLOP/s; 10.5 GB with checkpointing"
    assert how_fast.on_a_gpu() == expected
    assert expected in how_fast.table()


def test_cost_is_three_forward_passes_of_every_step(monkeypatch):
    plan = script("plan.py")
    monkeypatch.setattr(plan, "TERAFLOPS", 100)
    text = plan.cost(plan.Plan("nyud", ("mtlsi",), ("vit_l",), seeds=2, rows=5))
    flop = 3 * (711 + 156) * 1e9 * 4 * 40_000 * 10
    assert f"| mtlsi | vit_l | 10 | 867 | {flop / 1e18:.1f} | {flop / 1e14 / 3600:.0f} |" in text


@pytest.mark.parametrize("results", sorted(FOLDER.glob("*/results")), ids=lambda path: path.parent.name)
def test_contributed_runs_can_be_compared(results, tmp_path):
    folders, _ = find_folders(str(results))
    if not folders:
        pytest.skip("no contributed run folders")
    compare(compose_config(f"runs={results}", f"out={tmp_path}", "strict=true", "bootstrap=0", name="compare"))
    large = [path for path in results.rglob("*") if path.suffix == ".ckpt" or path.stat().st_size > 2_000_000]
    assert not large


def test_settings_are_chosen_by_the_mean_relative_change_against_each_networks_default():
    script_ = script("choose.py")
    train = "python -m mtlsi_net.train experiment=rooms_bench"
    runs = pd.DataFrame(
        [
            (f"{train} model=plain optim.lr=0.001", 0.20, 0.50),
            (f"{train} model=plain optim.lr=0.002", 0.22, 0.55),  # +10 %, -10 %
            (f"{train} model=plain model.norm=layer", 0.21, 0.50),  # +5 %, 0 %
            (f"{train} ablation=blocks_011 optim.lr=0.0005", 0.20, 0.40),
            (f"{train} ablation=blocks_011 optim.lr=0.001", 0.40, 0.50),  # the default, and the best
        ],
        columns=["command", "semseg/mIoU", "depth/rmse"],
    )
    table = script_.choose(runs).set_index(["network", "norm", "lr"])
    assert table["gain"].loc["model=plain", "batch", 0.002] == pytest.approx(0)
    assert table["gain"].loc["model=plain", "layer", 0.001] == pytest.approx(2.5)
    assert table["gain"].loc["ablation=blocks_011", "batch", 0.0005] == pytest.approx(-15)
    chosen = table[table["chosen"]].index.tolist()
    assert chosen == [("ablation=blocks_011", "batch", 0.001), ("model=plain", "layer", 0.001)]
    with pytest.raises(SystemExit, match="no main scores: boundary/odsF_partial"):
        script_.choose(runs.assign(**{"boundary/odsF_partial": 0.5}))


def test_nothing_made_from_the_photographs_is_tracked():
    listed = subprocess.run(["git", "ls-files", "clothing"], cwd=FOLDER, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    allowed = {".csv", ".md", ".json", ".sh", ".tex", ".yaml"}
    pictures = {"scores.png"}  # charts of compare
    assert [
        name for name in listed.stdout.split() if Path(name).suffix not in allowed and Path(name).name not in pictures
    ] == []


def test_the_configuration_of_the_photographs_composes():
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        cfg = compose("train", [f"hydra.searchpath=[file://{FOLDER / 'clothing' / 'conf'}]", "experiment=clothing"])
    assert list(cfg.tasks) == ["saliency", "boundary", "semseg", "human_parts"]
    assert (len(cfg.tasks.semseg.classes), len(cfg.tasks.human_parts.classes)) == (23, 8)
    assert cfg.pictures == 0


def test_scores_are_drawn_over_the_share_of_labels(tmp_path):
    curves = script("label_share/curves.py")
    few = ["model=plain data.label_share={normals: 0.05}", "data.label_share={normals: 0.2}"]
    pd.DataFrame({"label": few, "normals/mean": [30.0, 20.0]}).to_csv(tmp_path / "runs.csv", index=False)
    full = ["model=plain", "model=plain", "model=invpt", "ablation=blocks_011"]
    pd.DataFrame({"label": full, "normals/mean": [15.0, 17.0, 1.0, 2.0]}).to_csv(tmp_path / "full.csv", index=False)
    curves.main(tmp_path, tmp_path / "full.csv")
    rows = pd.read_csv(tmp_path / "labels.csv").to_numpy().tolist()
    assert rows == [
        ["mtlsi", 0.2, 1, 20.0, 20.0, 20.0],
        ["plain", 0.05, 1, 30.0, 30.0, 30.0],
        ["plain", 1.0, 2, 16.0, 15.0, 17.0],
    ]
    assert (tmp_path / "labels.png").is_file()


def test_the_lead_over_all_seeds_is_paired_by_seed():
    script_ = script("rooms_bench/lead.py")
    names = ["label", "seed", "semseg/mIoU", "depth/rmse"]
    rows = [("model=single_task", 0, 0.4, 0.6), ("model=single_task", 1, 0.6, 0.4)]  # means of 0.5
    rows += [("model=mtlsi", 0, 0.60, 0.45), ("model=plain", 0, 0.58, 0.45), ("model=invpt", 0, 0.1, 0.9)]
    more = [("model=plain", 1, 0.50, 0.45), ("model=mtlsi", 1, 0.54, 0.45)]
    table = script_.lead(pd.DataFrame(rows, columns=names), pd.DataFrame(more, columns=names)).set_index("score")
    assert table["seeds"].tolist() == [2, 2, 2]
    assert table.loc["semseg/mIoU", "difference"] == pytest.approx(0.03)  # 0.02 and 0.04
    half = 12.706 * 0.01  # t of one degree of freedom, standard error of two values
    assert table.loc["semseg/mIoU", ["low", "high"]].tolist() == pytest.approx([0.03 - half, 0.03 + half], rel=1e-3)
    assert table.loc["gain", "difference"] == pytest.approx(3)  # points: 6 % more of classes, depth the same
    with pytest.raises(SystemExit, match="both need each seed once"):
        script_.lead(pd.DataFrame(rows, columns=names), pd.DataFrame(more[:1], columns=names))
