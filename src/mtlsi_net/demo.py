"""Serve a demo page for a trained network: ``python -m mtlsi_net.demo ckpt=FILE|FOLDER``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Serve the page until it is interrupted."""
    from mtlsi_net.inference.demo import serve

    serve(cfg)


if __name__ == "__main__":
    run_command("demo", main)
