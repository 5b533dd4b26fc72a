"""Evaluate a checkpoint: ``python -m mtlsi_net.evaluate ckpt=FILE|FOLDER``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command
from mtlsi_net.cli.launch import start


def main(cfg: DictConfig) -> float:
    """Score the checkpoint with the configuration it carries."""
    return start(evaluate_one, cfg)


def evaluate_one(cfg: DictConfig) -> float:
    """Score one checkpoint; return its skill."""
    from mtlsi_net.engine.evaluate import evaluate

    return evaluate(cfg).skill


if __name__ == "__main__":
    run_command("evaluate", main)
