"""Predict for images: ``python -m mtlsi_net.predict ckpt=FILE|FOLDER input=PATH|DIR|'glob' [out=DIR]``."""

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Write results, pictures and a page."""
    from mtlsi_net.inference.predict import predict

    predict(cfg)


if __name__ == "__main__":
    run_command("predict", main)
