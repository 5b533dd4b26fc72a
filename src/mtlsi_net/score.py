"""Score saved predictions: ``python -m mtlsi_net.score pred=FOLDER data=nyud|pascal data.root=...``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Score the predictions and print the table."""
    from mtlsi_net.engine.score import score

    score(cfg)


if __name__ == "__main__":
    run_command("score", main)
