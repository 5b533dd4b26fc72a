"""What the command writes, from synthetic run folders."""

import csv
import json
import re

import cv2
import numpy as np
import pytest
from helpers.miniature import compose_config
from helpers.run_folders import write_picture, write_run

from mtlsi_net.comparison import compare as command
from mtlsi_net.comparison.compare import compare
from mtlsi_net.comparison.gains import PERCENTS
from mtlsi_net.comparison.tables import LATEX
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.official import OFFICIAL
from mtlsi_net.metrics.per_image import ImageSums, write_image_sums

CURVES = "step,val/semseg/mIoU\n10,0.1\n20,0.2\n"


def run_compare(out, *runs, **settings):
    words = [f"{key}={value}" for key, value in settings.items()]
    return compare(
        compose_config(f"runs=[{','.join(map(str, runs))}]", f"out={out}", "bootstrap=50", *words, name="compare")
    )


def write_set(root):
    """Write two seeds of one network, another, and its single-task references, on all of NYUDv2's test images."""
    runs = []
    for seed, value in enumerate((0.54, 0.56)):
        runs.append(
            write_run(
                root / f"a{seed}", {"semseg": {"mIoU": value}, "depth": {"rmse": 0.6}}, {"seed": seed}, curves=CURVES
            )
        )
    low = {"semseg": {"mIoU": 0.52}, "depth": {"rmse": 0.57}}
    runs.append(write_run(root / "b", low, {"name": "100%_plain", "model.width": 1}))
    for task, metric, value in (("semseg", "mIoU", 0.5), ("depth", "rmse", 0.6)):
        runs.append(write_run(root / task, {task: {metric: value}}, {"name": f"single_{task}", "model.x": task}))
    return runs


def markdown_of(folder):
    """Return ``table.md``, the padding of its cells left out."""
    return re.sub(r" {2,}", " ", (folder / "table.md").read_text())


def page_data(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    runs = write_set(root)
    write_picture(runs[0])
    return run_compare(root / "out", *runs, root / "nowhere")


def test_markdown_has_rows_gains_reasons_and_published_results_apart(done):
    text = markdown_of(done.folder)
    ours, _, published = text.partition("Published results of other methods:")
    assert (
        "| toy | 2 | 2.5 | 0.5 | 1 (0.5 GMAC) | 0.55 ± 0.014 | 0.6 ± 0 | +5.00 ± 1.4 |" in ours
    )  # (10 % + 0 %) / 2, 8 % and 12 %
    assert "| 100%_plain | 1 | 2.5 | 0.5 | 1 (0.5 GMAC) | 0.52 | 0.57 | +4.50 |" in ours  # (4 % + 5 %) / 2
    assert "- gain of toy, 100%_plain over semseg: single_semseg, depth: single_depth" in ours
    assert "runs that differ only in the seed, paths, logging or hardware share a row" in ours
    assert re.search(r"- \S+nowhere: no folder matches", published)
    assert "MLoRE" not in ours
    assert re.search(
        r"\| MLoRE \| ViT-L \| 551.6 \| 247.5 \| decoder 2101 \(1050 GMAC\) \| FLOP \| 0.5596 \| 0.5076 \|.*boundary odsF 0.7843",
        published,
    )


def test_csv_has_all_numbers_and_kinds(done):
    with (done.folder / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    first = lines[0]
    assert (first["kind"], first["label"], first["n"], first["unit"], first["backbone"]) == (
        "ours",
        "toy",
        "2",
        "FLOP",
        "tiny",
    )
    assert float(first["semseg/mIoU"]) == pytest.approx(0.55)
    assert float(first["semseg/mIoU_std"]) == pytest.approx(0.02 / np.sqrt(2))
    assert float(first["gain"]) == pytest.approx(0.05)
    assert first["semseg/mIoU_low"] == ""
    published = [line for line in lines if line["kind"] == "published"]
    assert len(published) > 10
    assert all(line["remarks"] and not line["gain"] for line in published)
    assert {line["unit"] for line in published} == {"", "unknown", "FLOP"}


def test_every_run_has_a_line_with_budget_and_origin(done):
    with (done.folder / "runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["label"], line["seed"]) for line in lines[:2]] == [("toy", "0"), ("toy", "1")]
    assert [float(line["semseg/mIoU"]) for line in lines[:2]] == [0.54, 0.56]
    assert [float(line["gain"]) for line in lines[:2]] == pytest.approx([0.04, 0.06])  # half of 8 % and 12 %
    assert (lines[0]["steps"], lines[0]["batch"], lines[0]["images"]) == ("100", "4", "400")
    assert lines[0]["command"].startswith("python -m mtlsi_net.train")
    assert lines[0]["trained_by"] == ""
    assert (lines[0]["commit"], lines[0]["cpu"], lines[0]["cores"], lines[0]["gpus"]) == ("0123abc", "toy", "2", "")
    alone = next(line for line in lines if line["label"] == "single_depth")
    assert (alone["semseg/mIoU"], alone["gain"]) == ("", "")


def test_an_evaluations_line_names_its_training(tmp_path):
    trained = {"command": "python -m mtlsi_net.train model=plain", "commit": "0123abc"}
    run = write_run(tmp_path / "run", record={"command": "python -m mtlsi_net.evaluate ckpt=RUN", "trained": trained})
    run_compare(tmp_path / "out", run)
    (line,) = csv.DictReader((tmp_path / "out" / "runs.csv").open())
    assert line["trained_by"] == trained["command"]


def test_the_figure_is_drawn_for_every_table_and_no_other(done, tmp_path):
    (tmp_path / "scores_7.png").write_bytes(b"of an earlier comparison")
    (tmp_path / "scores_of_mine.png").write_bytes(b"of the user")
    other = write_run(tmp_path / "other", record={"data.parts.image": "f" * 64})
    run_compare(tmp_path, write_run(tmp_path / "one"), other)
    assert {path.name for path in tmp_path.glob("*.png")} == {"scores.png", "scores_2.png", "scores_of_mine.png"}
    image = cv2.imread(str(done.folder / "scores.png"))
    assert image.std() > 10  # not blank


def test_latex_is_escaped_and_our_best_is_bold(done):
    text = (done.folder / "table.tex").read_text()
    ours, _, published = text.partition("Published by others")
    assert r"toy & 2 & \textbf{0.55 $\pm$ 0.014} & 0.6 $\pm$ 0 & \textbf{+5.00 $\pm$ 1.4} \\" in ours
    assert r"100\%\_plain & 1 & 0.52 & \textbf{0.57} & +4.50 \\" in ours
    assert r"semseg mIoU $\uparrow$" in ours
    assert r"\emph{MLoRE, ViT-L} &  & 0.5596" in published
    assert "textbf" not in published
    assert text.count(r"\begin{tabular}{lrrrr}") == text.count(r"\bottomrule") == 1


def test_latex_knows_the_symbols_of_all_headings():
    assert LATEX.keys() >= {letter for heading in PERCENTS.values() for letter in heading if not letter.isascii()}


def test_brackets_in_names_are_printed(tmp_path, capsys):
    run = write_run(tmp_path / "a", config={"name": "[old]"}, record={"data.name": "kitchens[v2]"})
    run_compare(tmp_path / "out", run)
    printed = capsys.readouterr().out
    assert "[old]" in printed
    assert "kitchens[v2], val images" in printed


def test_the_page_is_self_contained(done):
    text = (done.folder / "index.html").read_text()
    for pattern in (r"<link", r"<script[^>]*\bsrc=", r"@import", r"url\(", r"\bfetch\(", r"<iframe", r"XMLHttpRequest"):
        assert not re.search(pattern, text), pattern
    assert re.findall(r"https?://[^\"'\s<]+", text) == ["http://www.w3.org/2000/svg"]  # a namespace, never loaded
    data = page_data(done.folder / "index.html")
    assert [row["label"] for row in data["tables"][0]["rows"]] == ["toy", "100%_plain", "single_semseg", "single_depth"]
    assert data["tables"][0]["rows"][0]["runs"] == [0, 1]
    assert data["runs"][0]["curves"] == {"semseg mIoU": [[10, 0.1], [20, 0.2]]}
    assert data["runs"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert data["runs"][1]["picture"] is None


def test_names_cannot_break_out_of_the_page(tmp_path):
    name = "</script><script>alert(1)</script>"
    run_compare(tmp_path / "out", write_run(tmp_path / "a", config={"name": name}))
    assert name not in (tmp_path / "out" / "index.html").read_text()
    assert page_data(tmp_path / "out" / "index.html")["tables"][0]["rows"][0]["label"] == name


def test_published_results_can_be_left_out_and_are_never_beside_a_part_of_the_images(tmp_path):
    run = write_run(tmp_path / "a")
    assert run_compare(tmp_path / "1", run, published="false").tables[0].published == []
    assert run_compare(tmp_path / "2", run).tables[0].published
    partial = write_run(tmp_path / "b", {"boundary": {"odsF_partial": 0.5}})
    few = write_run(tmp_path / "c", images={"semseg/mIoU": [[0.5, 1.0]] * 3})
    dev, small = write_run(tmp_path / "d", stage="dev"), write_run(tmp_path / "e", record={"data.scale": 0.5})
    ours = write_run(tmp_path / "f", record={"data.prepared": "nyu_mat"})
    for number, (folder, why) in enumerate(
        [
            *(
                (partial, "on only some of"),
                (few, "0 of the 654 published"),
                (dev, "dev images"),
                (small, "at scale 0.5"),
            ),
            (ours, "the data set was prepared from nyu_mat"),
        ],
        start=3,
    ):
        (table,) = run_compare(tmp_path / str(number), folder).tables
        assert table.published == []
        assert any("published results are not shown" in note and why in note for note in table.notes)


def test_all_published_images_pass(tmp_path):
    run = write_run(tmp_path / "a")
    ids = OFFICIAL["nyud"].ids("val")
    sums = {"semseg/mIoU": np.array([[0.5, 1.0]] * len(ids)), "depth/rmse": np.array([[0.6, 1.0]] * len(ids))}
    write_image_sums(run / "per_image.npz", ImageSums(ids, sums, dict.fromkeys(sums, "ratio")))
    assert run_compare(tmp_path / "out", run).tables[0].published


def test_saliency_of_both_kinds_stands_in_columns_of_its_own(tmp_path):
    run = write_run(tmp_path / "a", {"saliency": {"maxF": 0.8, "maxF_invpt": 0.79}}, record={"data.name": "pascal"})
    (table,) = run_compare(tmp_path / "out", run).tables
    assert list(table.columns) == ["saliency/maxF", "saliency/maxF_invpt"]
    text = markdown_of(tmp_path / "out")
    assert re.search(r"\| MLoRE \| ViT-B \| - \| - \| - \| - \| - \| 0.8531 \|", text)
    assert re.search(r"\| DeMT \| Swin-B \| - \| - \| - \| - \| 0.8342 \| - \|", text)
    assert "saliency maxF_unstated 0.8452" in text


def test_tables_that_do_not_compare_are_apart_and_say_why(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", record={"protocol": "2"})]
    result = run_compare(tmp_path / "out", *runs)
    assert len(result.tables) == 2
    assert (
        "## nyud, val images - not comparable with the first table: other protocol (1 against 2)"
        in (tmp_path / "out" / "table.md").read_text()
    )


def test_data_that_is_not_identified_is_noted(tmp_path):
    (write_run(tmp_path / "a") / "run.json").unlink()
    (table,) = run_compare(tmp_path / "out", tmp_path / "a").tables
    assert table.data == "toy, val images"
    assert any("does not identify the data" in note for note in table.notes)


def test_best_weights_are_called_chosen_on_the_test_set(tmp_path):
    (table,) = run_compare(
        tmp_path / "out", write_run(tmp_path / "a", images={"semseg/mIoU": [[0.5, 1.0]]}), weights="best"
    ).tables
    assert "scores of the best checkpoint chosen on the test set" in table.notes[0]
    assert not table.resampled  # per_image.npz is of the last weights


def test_intervals_pairs_and_worst_images_are_written(tmp_path):
    images = {"semseg/mIoU": [[0.4, 1.0], [0.6, 1.0]], "depth/rmse": [[0.5, 1.0], [0.5, 1.0]]}
    better = {"semseg/mIoU": [[0.5, 1.0], [0.7, 1.0]], "depth/rmse": [[0.6, 1.0], [0.6, 1.0]]}
    worse, scores = ({"semseg": {"mIoU": miou}, "depth": {"rmse": rmse}} for miou, rmse in ((0.5, 0.5), (0.6, 0.6)))
    data = tmp_path / "data" / "images"
    data.mkdir(parents=True)
    write_picture(tmp_path)
    (tmp_path / "pictures" / "val.png").rename(data / "a.png")
    runs = [
        write_run(tmp_path / "a", worse, {"data.root": str(tmp_path / "data")}, images=images),
        write_run(tmp_path / "b", scores, {"model.width": 1}, images=better),
    ]
    run_compare(tmp_path / "out", *runs)
    with (tmp_path / "out" / "pairs.csv").open() as file:
        pair = next(csv.DictReader(file))
    assert (pair["first"], pair["second"], pair["score"]) == ("toy", "model.width=1", "semseg/mIoU")
    assert float(pair["difference"]) == float(pair["low"]) == pytest.approx(-0.1)
    text = markdown_of(tmp_path / "out")
    assert "| toy | model.width=1 | semseg/mIoU | -0.1 | [-0.1, -0.1] | | worse |" in text
    assert "| toy | model.width=1 | depth/rmse | -0.1 | [-0.1, -0.1] | | better |" in text
    assert "95% intervals over images, and over seeds" in text
    found = page_data(tmp_path / "out" / "index.html")
    assert found["worst"][0] == {
        "first": "toy",
        "second": "model.width=1",
        "what": "semseg mIoU",
        "images": [["a", 0.4, 0.5], ["b", 0.6, 0.7]],
    }
    assert list(found["thumbnails"]) == ["a"]


def test_pictures_keep_to_the_budget(tmp_path):
    runs = [write_run(tmp_path / str(n), config={"model.width": n}) for n in range(3)]
    for run in runs:
        write_picture(run, width=1500)
    whole = run_compare(tmp_path / "whole", *runs)
    assert whole.skipped == []
    tight = run_compare(tmp_path / "tight", *runs, page_mb=0.02)
    assert (
        (tmp_path / "tight" / "index.html").stat().st_size < 0.2e6 < (tmp_path / "whole" / "index.html").stat().st_size
    )
    assert any("its pictures do not fit the page" in item.reason for item in tight.skipped)


def test_broken_curves_and_pictures_leave_the_run_in(tmp_path):
    run = write_run(tmp_path / "a", curves="step,val/semseg/mIoU\nx,y\n")
    write_picture(run)
    (run / "pictures" / "val.png").write_bytes(b"no picture")
    result = run_compare(tmp_path / "out", run)
    assert len(result.tables[0].groups) == 1
    assert ["metrics.csv cannot be read" in item.reason for item in result.skipped] == [True]


def test_broken_runs_are_named_and_the_rest_is_compared(tmp_path):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    (bad / "metrics.json").unlink()
    result = run_compare(tmp_path / "out", good, bad)
    assert len(result.tables[0].groups) == 1
    assert f"- {bad}: unfinished" in (tmp_path / "out" / "table.md").read_text()


def test_nothing_left_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nothing to compare \(.*nowhere: no folder matches\); give runs="):
        run_compare(tmp_path / "out", tmp_path / "nowhere")
    for nothing in ("runs=[]", "runs=null"):
        with pytest.raises(UserError, match="no run was given"):
            compare(compose_config(nothing, f"out={tmp_path / 'out'}", name="compare"))
    with pytest.raises(UserError, match="weights=lats is not known"):
        run_compare(tmp_path / "out", weights="lats")


def test_one_folder_needs_no_list(tmp_path):
    write_run(tmp_path / "a")
    result = compare(compose_config(f"runs={tmp_path}/*", f"out={tmp_path}/out", name="compare"))
    assert [group.label for group in result.tables[0].groups] == ["toy"]


def test_runs_of_wandb_are_compared_with_local_ones(tmp_path, monkeypatch):
    fetched = write_run(tmp_path / "fetched", config={"model.width": 1})
    monkeypatch.setattr(
        command, "fetch_runs", lambda project, into: ([fetched], [command.SkippedRun(project, str(into))])
    )
    result = run_compare(tmp_path / "out", write_run(tmp_path / "a"), wandb="me/it")
    assert len(result.tables[0].groups) == 2
    assert result.skipped[0].name == "me/it"


@pytest.mark.parametrize(
    "odd",
    [
        {"config": {"data": 3}},
        {"config": {"model": None, "backbone": [1], "trainer": "none", "name": None}},
        {"config": {"when": {2026: "a"}, "seed": None}},
        {"record": {"data": [], "seconds": [], "metrics": 3, "command": 3, "main": []}},
        {"record": {"data.parts": {"lists": None}, "protocol": None}},
        {"scores": {"semseg": {"mIoU": None}, "depth": {"rmse": None}}},
    ],
)
def test_odd_values_of_a_foreign_run_end_in_no_traceback(tmp_path, odd):
    runs = [
        write_run(tmp_path / "a", **odd),
        write_run(tmp_path / "b"),
        write_run(tmp_path / "c", {"depth": {"rmse": 0.5}}),
    ]
    result = run_compare(tmp_path / "out", *runs)
    assert sum(len(table.groups) for table in result.tables) + len(result.skipped) == 3


def test_one_reference_for_all_tasks_is_named_once(tmp_path):
    single = {"name": "single", "model": {"_target_": "mtlsi_net.models.baselines.single_task.SingleTaskNet"}}
    run_compare(tmp_path / "out", write_run(tmp_path / "a"), write_run(tmp_path / "b", config=single))
    text = markdown_of(tmp_path / "out")
    assert "- gain of toy over single\n" in text
    assert "- gain of single none: a single-task reference itself\n" in text


def test_a_strict_comparison_refuses_what_it_would_leave_out(tmp_path):
    good, unknown = write_run(tmp_path / "good"), write_run(tmp_path / "unknown", record={"data.parts": {}})
    run_compare(tmp_path / "out", good, strict="true")
    with pytest.raises(UserError, match=r"strict=true, but .*nowhere: no folder matches"):
        run_compare(tmp_path / "out", good, tmp_path / "nowhere", strict="true")
    with pytest.raises(UserError, match=r"strict=true, but toy.*: run.json does not identify its data"):
        run_compare(tmp_path / "out", good, unknown, strict="true")
