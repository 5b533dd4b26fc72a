"""Export a trained network: ``python -m mtlsi_net.export ckpt=FILE|FOLDER format=onnx|torch_export|safetensors``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Write the file, and compare it with PyTorch."""
    from mtlsi_net.inference.export import export

    export(cfg)


if __name__ == "__main__":
    run_command("export", main)
