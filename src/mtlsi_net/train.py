"""Train a network: ``python -m mtlsi_net.train experiment=rooms_demo``."""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mtlsi_net.utils.errors import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float:
    """Train, evaluate and report; the imports wait until the configuration is known to be right."""
    with user_errors():
        from mtlsi_net.training import train

        if HydraConfig.get().mode == RunMode.MULTIRUN:  # every job of a sweep has a folder of its own
            cfg.paths.run_dir = HydraConfig.get().runtime.output_dir
        return train(cfg).gain


if __name__ == "__main__":
    main()
