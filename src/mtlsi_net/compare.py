"""Compare finished runs: ``python -m mtlsi_net.compare runs=FOLDER|[FOLDER,...]|'GLOB' [out=DIR]``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="compare", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Write tables and a page, and print the tables."""
    with user_errors():
        from mtlsi_net.comparison.compare import compare

        compare(cfg)


if __name__ == "__main__":
    run_command("compare", main)
