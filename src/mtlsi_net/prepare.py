"""Prepare a data set from its official files: ``python -m mtlsi_net.prepare source=nyu_mat file=FILE out=DIR``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Write the data set in the layout that this suite reads."""
    from mtlsi_net.data_tools.prepare import prepare

    prepare(cfg)


if __name__ == "__main__":
    run_command("prepare", main)
