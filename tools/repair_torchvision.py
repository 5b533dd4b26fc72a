"""Let a CPU build of torch work beside the ordinary (CUDA) torchvision wheel.

That wheel's compiled library cannot load there. torchvision itself tolerates this, except that it registers shape rules
for two operators which then do not exist, so `import torchvision` fails, and timm, lightning and torchmetrics with it.
This script declares the two operator schemas before torchvision is imported, in every process of the environment (a
`.pth` start-up hook, so that spawned workers and notebooks are covered too). No operator is faked: calling one still
raises torchvision's own error. Where torchvision imports as it is, nothing is written.

Usage: python tools/repair_torchvision.py
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK = '''"""Declares two operator schemas for a torchvision without its compiled library; see tools/repair_torchvision.py."""
import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            globals()["_keep_alive"] = self.library
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define(
                "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return None


sys.meta_path.insert(0, _DeclareOperators())
'''


def torchvision_imports() -> bool:
    """Whether `import torchvision` works in a fresh process of this environment."""
    return subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode == 0


def main() -> int:
    """Write the hook if, and only if, it is needed; exit code 1 if torchvision fails even so."""
    if torchvision_imports():
        return 0
    site = Path(sysconfig.get_paths()["purelib"])
    (site / "_mtlsi_torchvision_schemas.py").write_text(HOOK)
    (site / "mtlsi_torchvision_schemas.pth").write_text("import _mtlsi_torchvision_schemas\n")
    if torchvision_imports():
        print("torchvision: declared the two operators its compiled library would have brought (CPU torch)")
        return 0
    print("torchvision does not import; run `python -c 'import torchvision'` to see why", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
