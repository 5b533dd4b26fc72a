"""Predict for images: ``python -m mtlsi_net.predict ckpt=FILE|FOLDER input=PATH|DIR|'glob' [out=DIR]``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="predict", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Write results, pictures and a page."""
    with user_errors():
        from mtlsi_net.prediction.command import predict

        predict(cfg)


if __name__ == "__main__":
    run_command("predict", main)
