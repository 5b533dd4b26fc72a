"""Probe a trained network's blocks: ``python -m mtlsi_net.probe ckpt=outputs/.../checkpoints/last.ckpt``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Probe the checkpoint with the configuration it carries."""
    from mtlsi_net.analysis.probe import probe

    probe(cfg)


if __name__ == "__main__":
    run_command("probe", main)
