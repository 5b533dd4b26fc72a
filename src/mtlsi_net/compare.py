"""Compare finished runs: ``python -m mtlsi_net.compare runs=FOLDER|[FOLDER,...]|'GLOB' [out=DIR]``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Write tables and a page, and print the tables."""
    from mtlsi_net.comparison.compare import compare

    compare(cfg)


if __name__ == "__main__":
    run_command("compare", main)
