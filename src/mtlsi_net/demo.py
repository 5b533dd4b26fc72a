"""A page to try a trained network on: ``python -m mtlsi_net.demo ckpt=FILE|FOLDER``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="demo", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Serve the page until it is interrupted."""
    with user_errors():
        from mtlsi_net.prediction.demo_page import serve

        serve(cfg)


if __name__ == "__main__":
    run_command("demo", main)
