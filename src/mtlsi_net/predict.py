"""Predict for images: ``python -m mtlsi_net.predict ckpt=FILE|FOLDER input=PATH|DIR|'glob' [out=DIR]``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.config_checks import tasks_are_names
from mtlsi_net.utils.errors import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="predict", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Write results, pictures and a page."""
    with user_errors():
        from mtlsi_net.prediction.command import predict

        predict(cfg)


if __name__ == "__main__":
    tasks_are_names()
    main()
