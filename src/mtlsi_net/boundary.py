"""Score saved boundary maps: ``python -m mtlsi_net.boundary pred=DIR gt=DIR preset=nyud|pascal|bsds|plain``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="boundary", version_base="1.3")
def main(cfg: DictConfig) -> float:
    """Score any method's boundary maps and return odsF."""
    with user_errors():
        from mtlsi_net.boundary_scoring.score import score_folders

        return score_folders(cfg).value


if __name__ == "__main__":
    run_command("boundary", main)
