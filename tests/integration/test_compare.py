"""Real runs compared: by the command, and in a real browser."""

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.documents import documented_command
from helpers.documents import run as run_command
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.run_folders import last_scores, write_picture, write_run

from mtlsi_net.comparison.compare import compare
from mtlsi_net.comparison.identity import mean
from mtlsi_net.engine.train import train
from mtlsi_net.metrics.gain import delta_m

TASKS = {"semseg": True, "depth": False}
BROWSER = shutil.which(os.environ.get("MTLSI_BROWSER", "chromium"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the scores of a network of two tasks with two seeds, and of each task alone, and their folder."""
    root = tmp_path_factory.mktemp("runs")
    data = write_miniature(tmp_path_factory.mktemp("data"), val=4)
    without = {"both": [], "semseg": ["~tasks.depth"], "depth": ["~tasks.semseg"]}
    found = {}
    for name, seed in (("both", 0), ("both", 1), ("semseg", 0), ("depth", 0)):
        words = [
            word for word in short_overrides(data, root / f"{name}_{seed}") if not word.startswith("model.head_dim")
        ]
        words += [
            "model=shared_encoder",
            "~tasks.normals",
            "~tasks.boundary",
            f"seed={seed}",
            f"name={name}",
            *without[name],
        ]
        result = train(compose_config(*words, "trainer.val_check_interval=1"))
        found[name, seed] = last_scores(result.folder.root)
    return root, found


def test_gain_of_real_runs_with_intervals(trained, tmp_path):
    root, scores = trained
    result = compare(compose_config(f"runs={root}/*", f"out={tmp_path}", "bootstrap=200", name="compare"))
    (table,) = result.tables
    assert result.skipped == []
    assert [(group.label, len(group.runs)) for group in table.groups] == [("both", 2), ("depth", 1), ("semseg", 1)]
    keys = {"semseg": "mIoU", "depth": "rmse"}
    alone = {task: scores[task, 0][task][key] for task, key in keys.items()}
    each = [delta_m({t: scores["both", s][t][k] for t, k in keys.items()}, alone, TASKS) for s in (0, 1)]
    assert mean(table.gains["both"].seeds) == pytest.approx(sum(each) / 2)
    assert table.gains["both"].why == ""
    for group in table.groups:
        resampled = table.resampled[group.label]
        for key in resampled.scores.keys() - {"gain"}:
            low, high = resampled.interval(key)
            assert low <= mean(group.values(key)) <= high, key
    low, high = table.resampled["both"].interval("gain")
    assert low < high
    assert any("4 of the 654 published images" in note or "0 of the 654" in note for note in table.notes)
    with (tmp_path / "pairs.csv").open() as file:
        assert {line["score"] for line in csv.DictReader(file)} == {"semseg/mIoU", "depth/rmse"}
    assert "data:image/jpeg" in (tmp_path / "index.html").read_text()


def test_the_documented_command_takes_a_glob_and_leaves_all_files(trained, tmp_path):
    root, _ = trained
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "rooms_demo").symlink_to(root)
    command = documented_command("compare runs='outputs/rooms_demo")
    words = [word.replace("'", "") for word in command]  # as a shell passes them on
    done = run_command(tmp_path, *words, "out=here", "bootstrap=20")
    assert done.returncode == 0, done.stderr
    assert "gain of both over semseg: semseg, depth: depth" in done.stdout
    left = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"index.html", "table.md", "table.csv", "table.tex", "pairs.csv", "runs.csv", "scores.png"} <= left


def test_no_runs_end_the_command_with_one_line(tmp_path):
    done = run_command(tmp_path, "mtlsi_net.compare", "runs=nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nothing to compare (nowhere: no folder matches)")
    assert "Traceback" not in done.stderr + done.stdout


def browse(page: Path, fragment: str = "", script: str = "") -> str:
    """Return the page's document after its scripts have run; ``script`` is run last, as a user's click would be."""
    if script:
        page = page.with_name("scripted.html")
        page.write_text(
            page.with_name("index.html").read_text().replace("</body>", f"<script>{script}</script></body>")
        )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    done = subprocess.run(
        [str(BROWSER), *flags, f"file://{page}{fragment}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def labels(document: str, body: str = "ours") -> list[str]:
    """Return the first cells of the table's rows, in the order shown."""
    part = re.search(rf'<tbody class="{body}"[^>]*>(.*?)</tbody>', document, re.DOTALL)
    assert part is not None
    return re.findall(r'<tr[^>]*><td data-value="([^"]*)"', part[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the page of three networks and their references, with seeds, curves, pictures and images."""
    root = tmp_path_factory.mktemp("page")
    for number, (name, value) in enumerate((("middle", 0.5), ("best", 0.6), ("worst", 0.4))):
        curves = f"step,val/semseg/mIoU\n10,{value - 0.1}\n20,{value}\n"
        sums = {"semseg/mIoU": [[value - 0.1, 1.0], [value + 0.1, 1.0]]}
        config = {"name": name, "model.width": number}
        write_picture(
            write_run(
                root / name, {"semseg": {"mIoU": value}, "depth": {"rmse": 1.0}}, config, images=sums, curves=curves
            )
        )
    write_run(root / "alone", {"depth": {"rmse": 0.9}}, {"name": "alone", "model.width": 9})
    compare(compose_config(f"runs={root}/*", f"out={root}/out", "bootstrap=50", name="compare"))
    # as if all of the published images had been scored, so that published rows are there
    for name in ("middle", "best", "worst"):
        (root / name / "per_image.npz").unlink()
    compare(compose_config(f"runs={root}/*", f"out={root}/published", name="compare"))
    return root


@pytest.mark.skipif(BROWSER is None, reason="no chromium (apt-get install chromium, or MTLSI_BROWSER=...)")
class TestInABrowser:
    def test_everything_is_drawn(self, page):
        document = browse(page / "out" / "index.html")
        assert labels(document) == ["alone", "best", "middle", "worst"]
        sections = {
            name: document.partition(f'id="{name}"')[2].partition("<h2>")[0]
            for name in ("curves", "sizes", "pairs", "worst")
        }
        assert sections["curves"].count("<path") == 3
        assert sections["sizes"].count("<circle") == 7  # three of semseg, four of depth; no gains
        assert "semseg/mIoU" in sections["pairs"]
        assert "semseg mIoU: middle behind best" in sections["worst"]
        assert document.count('src="data:image/jpeg;base64,') == 3
        assert "model.width" in document.partition('id="settings"')[2]

    def test_the_fragment_sorts_and_rows_without_a_value_come_last(self, page):
        index = page / "out" / "index.html"
        assert labels(browse(index, "#sort=6")) == ["worst", "middle", "best", "alone"]
        assert labels(browse(index, "#sort=-6")) == ["best", "middle", "worst", "alone"]
        assert labels(browse(index, "#sort=-0")) == ["worst", "middle", "best", "alone"]

    def test_clicks_sort_choose_and_hide(self, page):
        clicks = 'const th = document.querySelectorAll("#table0 thead th")[6]; th.click(); th.click();'
        clicks += 'document.querySelector("tbody.ours input").click(); document.getElementById("published").click();'
        document = browse(page / "published" / "index.html", script=clicks)
        assert labels(document) == ["best", "middle", "worst", "alone"]
        assert labels(document, "published")[:2] == ["MTLSI-Net, unverified listing", "DeMT"]
        assert re.search(r'<tbody class="published" hidden', document)
        assert document.partition('id="curves"')[2].partition("<h2>")[0].count("<path") == 1  # of the row chosen

    def test_published_rows_stay_below_ours_whatever_is_sorted(self, page):
        document = browse(page / "published" / "index.html", "#sort=-6")
        assert labels(document) == ["best", "middle", "worst", "alone"]
        assert "MLoRE" in labels(document, "published")
        assert document.index('tbody class="ours"') < document.index('tbody class="published"')
