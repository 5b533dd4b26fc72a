"""Ask a trained network what its blocks do: ``python -m mtlsi_net.probe ckpt=outputs/.../checkpoints/last.ckpt``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="probe", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Probe the checkpoint with the configuration it carries."""
    with user_errors():
        from mtlsi_net.probing import probe

        probe(cfg)


if __name__ == "__main__":
    run_command("probe", main)
