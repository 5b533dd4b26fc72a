"""The commands themselves, in processes of their own: exit codes, one-line errors, the wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.miniature import short_overrides, write_miniature

ROOT = Path(__file__).parents[2]


def command(*arguments, cwd=None, python=sys.executable):
    return subprocess.run([python, "-m", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300)


def assert_one_line_error(done, *words, code=2):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


def test_missing_data_ends_with_one_line(tmp_path):
    done = command("mtlsi_net.train", "experiment=nyud_overfit", "data.root=nowhere", cwd=tmp_path)
    assert_one_line_error(done, "data folder nowhere does not exist", "NYUDv2.tar.gz", "data.root")


def test_bad_file_met_by_a_loader_process_ends_with_one_line(tmp_path):
    data = write_miniature(tmp_path / "data")
    (data / "images" / "0002.png").write_bytes(b"no image")
    done = command("mtlsi_net.train", *short_overrides(data, tmp_path / "run"), "data.num_workers=1", cwd=tmp_path)
    assert_one_line_error(done, "images/0002.png", "cannot be read")


def test_unwritable_run_folder_ends_with_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("mtlsi_net.train", "paths.run_dir=file/run", cwd=tmp_path)
    assert_one_line_error(done, "run folder file/run cannot be written", "paths.run_dir")


def test_boundary_scores_folders_and_names_what_is_missing(tmp_path):
    fixture = ROOT / "tests" / "fixtures" / "edge"
    for folder, kind in (("pred", "pred"), ("gt", "gt")):
        (tmp_path / folder).mkdir()
        for case in ("c00_clean", "c02_noisy"):
            shutil.copy(fixture / f"{case}_{kind}.png", tmp_path / folder / f"{case}.png")
    options = ("pred=pred", "gt=gt", "preset=bsds", "out=out")
    done = command("mtlsi_net.boundary", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {
        "counts.csv",
        "per_image.csv",
        "summary.json",
        "precision_recall.png",
    }
    (tmp_path / "gt" / "c00_clean.png").unlink()
    done = command("mtlsi_net.boundary", *options, cwd=tmp_path)
    assert_one_line_error(done, "1 predictions have no ground truth (c00_clean)")


def test_verify_data_leaves_with_the_verdict(tmp_path):
    data = write_miniature(tmp_path / "data")
    options = ("data=nyud", f"data.root={data}", "workers=1", f"paths.run_dir={tmp_path / 'out'}")
    done = command("mtlsi_net.verify_data", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "not comparable" in done.stdout
    (data / "depth" / "0002.npy").write_bytes(b"")
    done = command("mtlsi_net.verify_data", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "depth/0002.npy" in done.stdout


def test_data_without_mirrors_is_not_downloaded(tmp_path):
    done = command("mtlsi_net.download", "data=rooms", cwd=tmp_path)
    assert_one_line_error(done, "no list of mirrors", "data=nyud", "source=")


def test_score_ends_with_one_line_where_there_is_nothing_to_score(tmp_path):
    data = write_miniature(tmp_path / "data")
    (tmp_path / "pred").mkdir()
    done = command("mtlsi_net.score", "pred=pred", f"data.root={data}", cwd=tmp_path)
    assert_one_line_error(done, "pred holds no predictions of this data set")


def test_a_typo_gets_hydras_own_message(tmp_path):
    done = command("mtlsi_net.train", "optim.lrr=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "lrr" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        f"mtlsi_net.{name}"
        for name in (
            *("train", "evaluate", "verify_data", "download", "boundary", "score", "bench", "compare"),
            *("predict", "export", "demo", "probe"),
        )
    ],
)
def test_help_is_printed_without_loading_torch(module, tmp_path):
    done = command(module, "--help", cwd=tmp_path)
    assert done.returncode == 0
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_the_wheel_works_outside_the_checkout(tmp_path):
    copy = tmp_path / "checkout"  # setuptools would ship what an earlier build left in the checkout
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = command("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy))
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    shipped = set(zipfile.ZipFile(wheel).namelist())
    listing = subprocess.run(["git", "ls-files", "src", "conf"], capture_output=True, text=True, cwd=ROOT, check=True)
    tracked = {
        name.removeprefix("src/") if name.startswith("src/") else f"mtlsi_net/{name}"
        for name in listing.stdout.splitlines()
    }
    assert {name for name in shipped if ".dist-info/" not in name} == tracked
    installed = command("pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    assert installed.returncode == 0, installed.stderr
    # The wheel's copy is put before the checkout's on the path; everything else comes from this environment.
    start = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]"
    )
    data = write_miniature(tmp_path / "data")
    for arguments in (["--help"], short_overrides(data, tmp_path / "run")):
        code = (
            f"{start}; sys.argv = ['train', *{arguments!r}]; import mtlsi_net; "
            f"assert mtlsi_net.__file__.startswith({str(tmp_path)!r}), mtlsi_net.__file__; "
            "from mtlsi_net.train import main; from mtlsi_net.cli.entry import run_command; "
            "run_command('train', main)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
