"""Score saved boundary maps: ``python -m mtlsi_net.boundary pred=DIR gt=DIR preset=nyud|pascal|bsds|plain``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> float:
    """Score any method's boundary maps and return odsF."""
    from mtlsi_net.engine.score_boundaries import score_folders

    return score_folders(cfg).value


if __name__ == "__main__":
    run_command("boundary", main)
