"""Commands in processes of their own: exit codes, one-line errors, the installed wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.commands import run_command
from helpers.miniature import short_overrides, write_miniature

ROOT = Path(__file__).parents[2]


def command(*arguments):
    """Run ``python -m`` as a user does."""
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300)


def assert_one_line_error(done, *words, code=2):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


def test_missing_data_ends_with_one_line(tmp_path):
    done = run_command("mtlsi_net.train", "experiment=nyud_overfit", "data.root=nowhere", cwd=tmp_path)
    assert_one_line_error(done, "data folder nowhere does not exist", "NYUDv2.tar.gz", "data.root")


def test_bad_file_met_by_a_loader_process_ends_with_one_line(tmp_path):
    data = write_miniature(tmp_path / "data")
    (data / "images" / "0002.png").write_bytes(b"no image")
    done = run_command("mtlsi_net.train", *short_overrides(data, tmp_path / "run"), "data.num_workers=1", cwd=tmp_path)
    assert_one_line_error(done, "images/0002.png", "is not an image")


def test_unwritable_run_folder_ends_with_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_command("mtlsi_net.train", "paths.run_dir=file/run", cwd=tmp_path)
    assert_one_line_error(done, "run folder file/run cannot be written", "paths.run_dir")


def test_boundary_scores_folders_and_names_what_is_missing(tmp_path):
    fixture = ROOT / "tests" / "fixtures" / "edge"
    for folder, kind in (("pred", "pred"), ("gt", "gt")):
        (tmp_path / folder).mkdir()
        for case in ("c00_clean", "c02_noisy"):
            shutil.copy(fixture / f"{case}_{kind}.png", tmp_path / folder / f"{case}.png")
    options = ("pred=pred", "gt=gt", "preset=bsds", "out=out")
    done = run_command("mtlsi_net.boundary", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {
        "counts.csv",
        "per_image.csv",
        "summary.json",
        "precision_recall.png",
    }
    assert done.stdout.strip().splitlines()[-1] == "everything is in out: open out/precision_recall.png"
    (tmp_path / "gt" / "c00_clean.png").unlink()
    done = run_command("mtlsi_net.boundary", *options, cwd=tmp_path)
    assert_one_line_error(done, "1 predictions have no ground truth (c00_clean)")


def test_verify_data_leaves_with_the_verdict(tmp_path):
    data = write_miniature(tmp_path / "data")
    options = ("data=nyud", f"data.root={data}", "workers=1", f"paths.run_dir={tmp_path / 'out'}")
    done = run_command("mtlsi_net.verify_data", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "not comparable" in done.stdout
    train = f"python -m mtlsi_net.train experiment=nyud_vitl data.root={data}"
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"next: open {tmp_path / 'out' / 'samples.png'}, then train: {train}"
    assert (tmp_path / "out" / "samples.png").is_file()
    (data / "edge").rename(tmp_path / "edge")
    done = run_command("mtlsi_net.verify_data", *options, cwd=tmp_path)
    assert done.stdout.strip().splitlines()[-1].endswith(f"{train} '~tasks.boundary'")  # what has no labels is left out
    (data / "depth" / "0002.npy").write_bytes(b"")
    done = run_command("mtlsi_net.verify_data", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "depth/0002.npy" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("next: correct what is listed as broken, then run the same")


def test_data_without_mirrors_is_not_downloaded(tmp_path):
    done = run_command("mtlsi_net.download", "data=rooms", cwd=tmp_path)
    assert_one_line_error(done, "no list of mirrors", "data=nyud", "source=")


def test_score_ends_with_one_line_where_there_is_nothing_to_score(tmp_path):
    data = write_miniature(tmp_path / "data")
    (tmp_path / "pred").mkdir()
    done = run_command("mtlsi_net.score", "pred=pred", f"data.root={data}", cwd=tmp_path)
    assert_one_line_error(done, "pred holds no predictions of this data set")


def test_a_typo_gets_hydras_own_message(tmp_path):
    done = run_command("mtlsi_net.train", "optim.lrr=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "lrr" in done.stderr
    assert "Traceback" not in done.stderr


COMMANDS = (
    *("train", "evaluate", "verify_data", "download", "boundary", "score", "bench", "compare"),
    *("predict", "export", "demo", "probe", "prepare"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the wheel and install it alone into a folder; return the folder, with the wheel's files beside it."""
    root = tmp_path_factory.mktemp("wheel")
    copy = root / "checkout"  # setuptools would ship what an earlier build left in the checkout
    for name in ("src", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = command("build", "--wheel", "--no-isolation", "--outdir", str(root), str(copy))
    assert built.returncode == 0, built.stderr
    wheel = next(root.glob("*.whl"))
    installed = command("pip", "install", "--quiet", "--no-deps", "--target", str(root / "site"), str(wheel))
    assert installed.returncode == 0, installed.stderr
    return root / "site"


def installed(site, code, *arguments, cwd):
    """Run ``code`` in an interpreter with the wheel's ``run(name)``; everything else comes from this environment.

    ``run`` does what ``python -m mtlsi_net.NAME`` does with the arguments.
    """
    setup = (
        f"import runpy, sys; sys.path.insert(0, {str(site)!r}); "
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]; "
        f"import mtlsi_net; assert mtlsi_net.__file__.startswith({str(site)!r}), mtlsi_net.__file__; "
        "run = lambda name: runpy.run_module(f'mtlsi_net.{name}', run_name='__main__', alter_sys=True)\n"
    )
    words = [sys.executable, "-c", setup + code, *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_the_wheel_holds_what_git_tracks(site):
    (wheel,) = site.parent.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    listing = subprocess.run(["git", "ls-files", "src", "conf"], capture_output=True, text=True, cwd=ROOT, check=True)
    tracked = {
        name.removeprefix("src/") if name.startswith("src/") else f"mtlsi_net/{name}"
        for name in listing.stdout.splitlines()
    }
    assert {name for name in shipped if ".dist-info/" not in name} == tracked


def test_installed_commands_print_their_help_without_loading_torch(site, tmp_path):
    code = f"for name in {COMMANDS}: run(name); print('torch' in sys.modules, 'after', name)"
    done = installed(site, code, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rest = done.stdout
    for name in COMMANDS:
        text, loaded, rest = rest.partition(f"False after {name}\n")
        assert loaded, f"{name} loads torch"
        assert text.startswith(f"python -m mtlsi_net.{name} ")


def test_an_installed_command_trains_two_steps_outside_the_checkout_without_importing_wandb(site, tmp_path):
    data = write_miniature(tmp_path / "data")
    # Not boundaries: the wheel's code that scores them would have to be compiled.
    words = (*short_overrides(data, tmp_path / "run"), "logger=csv", "~tasks.boundary")
    done = installed(site, "run('train'); sys.exit('wandb' in sys.modules)", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
