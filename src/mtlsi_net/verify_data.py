"""Check a copy of a data set: ``python -m mtlsi_net.verify_data data=nyud|pascal data.root=...``.

Exit code 0: fit for comparison with published numbers; 1: usable but not comparable; 2: broken.
"""

import sys

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command


def main(cfg: DictConfig) -> None:
    """Verify the data set, print the findings, and exit with their code."""
    from mtlsi_net.data_tools.verify import verify

    sys.exit(int(verify(cfg).level))


if __name__ == "__main__":
    run_command("verify_data", main)
