"""Export a trained network: ``python -m mtlsi_net.export ckpt=FILE|FOLDER format=onnx|torch_export|safetensors``."""

import hydra
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="export", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Write the file, and compare it with PyTorch."""
    with user_errors():
        from mtlsi_net.prediction.export import export

        export(cfg)


if __name__ == "__main__":
    run_command("export", main)
