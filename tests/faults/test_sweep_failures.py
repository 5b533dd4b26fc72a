"""Sweeps with jobs that fail, and commands that start in one second."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.commands import run_command
from helpers.miniature import short_overrides, write_miniature
from omegaconf import OmegaConf

from mtlsi_net.cli.folders import claim_run_folder, claim_sweep_folder


@pytest.fixture
def data(tmp_path):
    """Return a data set whose third training image is damaged, and what it was."""
    root = write_miniature(tmp_path / "data")
    return root, root / "images" / "0003.png"


def sweep(root, cwd, *overrides):
    kept = [text for text in short_overrides(root, cwd, steps=1) if not text.startswith("paths.run_dir")]
    words = ("mtlsi_net.train", "-m", *kept, "sweep=s", "data.num_workers=0", *overrides)
    return run_command(*words, cwd=cwd, environment=dict(os.environ))


def job(cwd, images):
    return next((cwd / "outputs" / "nyud_overfit" / "sweep_s").glob(f"*max_train_images_{images}-*"))


@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")], ids=["basic", "joblib"]
)
def test_the_other_jobs_run_failures_are_listed_and_the_next_call_tries_them_again(data, tmp_path, launcher):
    root, image = data
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    words = ("data.max_train_images=3,2", *launcher)
    done = sweep(root, tmp_path, *words)
    failed, finished = job(tmp_path, 3), job(tmp_path, 2)
    assert done.returncode == 1, done.stderr
    assert (finished / "metrics.json").is_file()
    assert "Traceback" not in done.stderr + done.stdout
    assert re.search(rf"1 of the jobs failed:\n.*{failed.name}: .*images/0003.png is not an image", done.stdout)
    assert "error: 1 of the sweep's jobs failed" in done.stderr
    assert (failed / "error.txt").read_text().splitlines()[0].count("0003.png")

    image.write_bytes(whole)
    written = (finished / "metrics.json").stat().st_mtime_ns
    done = sweep(root, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert (finished / "metrics.json").stat().st_mtime_ns == written
    assert (failed / "metrics.json").is_file()
    assert not (failed / "error.txt").exists()
    assert "failed" not in done.stdout


def test_a_value_of_the_wrong_kind_in_one_job_leaves_the_other(data, tmp_path):
    done = sweep(data[0], tmp_path, "data.max_train_images=x,2")
    assert done.returncode == 1, done.stderr
    assert (job(tmp_path, 2) / "metrics.json").is_file()
    assert "data.max_train_images=x is text; give a whole number of at least 1 or null" in done.stdout


def config(root):
    return OmegaConf.create(
        {
            "paths": {"run_dir": f"{root}/${{now:%S}}"},
            "out": "x",
            "sweep": "${now:%S}",
            "hydra": {"sweep": {"dir": f"{root}/sweep_${{sweep}}"}, "overrides": {"task": []}},
        }
    )


@pytest.fixture
def one_second():
    OmegaConf.register_new_resolver("now", lambda _: "12-00-00", replace=True)
    yield
    OmegaConf.clear_resolver("now")


@pytest.mark.usefixtures("one_second")
def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path):
    def start(_):
        cfg = config(tmp_path)
        claim_run_folder(cfg)
        return cfg.paths.run_dir

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(start, range(8)))
    assert set(folders) == {f"{tmp_path}/12-00-00", *(f"{tmp_path}/12-00-00_{number}" for number in range(2, 9))}


@pytest.mark.usefixtures("one_second")
def test_a_folder_that_the_user_names_is_taken_as_it_is(tmp_path):
    cfg = config(tmp_path)
    cfg.paths.run_dir = "${out}"
    claim_run_folder(cfg)
    assert cfg.paths.run_dir == "x"
    cfg.out = f"{tmp_path}/${{now:%S}}"
    for end in ("", "_2"):
        claim_run_folder(again := OmegaConf.create(OmegaConf.to_container(cfg, resolve=False)))
        assert again.out == again.paths.run_dir == f"{tmp_path}/12-00-00{end}"


@pytest.mark.usefixtures("one_second")
def test_sweeps_without_a_name_that_start_in_one_second_get_folders_of_their_own(tmp_path):
    for end in ("", "_2", "_3"):
        claim_sweep_folder(cfg := config(tmp_path))
        assert cfg.hydra.overrides.task == [f"sweep=12-00-00{end}"]
        assert (tmp_path / f"sweep_12-00-00{end}").is_dir()


@pytest.mark.usefixtures("one_second")
def test_a_sweep_in_a_slurm_job_has_the_jobs_number_each_time_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    for _ in range(2):
        claim_sweep_folder(cfg := config(tmp_path))
        assert cfg.hydra.overrides.task == ["sweep=slurm_77"]
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # a shell on a node
    claim_sweep_folder(cfg := config(tmp_path))
    assert cfg.hydra.overrides.task == ["sweep=12-00-00"]
