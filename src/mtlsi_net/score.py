"""Score saved predictions: ``python -m mtlsi_net.score pred=FOLDER data=nyud|pascal data.root=...``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="score", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Score the predictions and print the table."""
    with user_errors():
        from mtlsi_net.scoring import score

        score(cfg)


if __name__ == "__main__":
    run_command("score", main)
