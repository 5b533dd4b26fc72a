"""Download a data set: ``python -m mtlsi_net.download data=nyud|pascal [data.root=...]``.

Exit code: that of ``verify_data`` on what was unpacked; 2 if there is nothing to verify.
"""

import sys

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Download, unpack and verify the data set; exit with the verdict's code."""
    from mtlsi_net.data_tools.download import download

    sys.exit(download(cfg))


if __name__ == "__main__":
    run_command("download", main)
