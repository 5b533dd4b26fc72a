import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "helpers" / "library_alone.py"


def test_networks_metrics_tasks_and_saved_models_need_no_trainer(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_models_metrics_and_tasks_know_no_configuration_and_no_rank():
    code = """
import importlib, pkgutil, sys
for package in ("models", "metrics", "tasks"):
    top = importlib.import_module(f"mtlsi_net.{package}")
    for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
        importlib.import_module(module.name)
unwanted = {"hydra", "omegaconf", "lightning", "albumentations", "wandb"}
print(sorted(name for name in sys.modules if name in unwanted or name.startswith("mtlsi_net") and name.endswith("ranks")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
