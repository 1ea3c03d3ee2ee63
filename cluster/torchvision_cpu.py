"""Makes a CUDA build of torchvision importable beside a CPU build of torch. Imports only the standard library.

The registry's torchvision links CUDA, so its operators cannot load beside a CPU torch and its import dies with
"operator torchvision::nms does not exist". Declaring the two operators that the import looks up is enough for the
transforms; `torchvision.ops` still refuses with torchvision's own message, and nothing here needs it.

    python -m cluster.torchvision_cpu    # in the environment to mend; does nothing where torchvision imports

The environment then loads a copy of this file through a .pth at every start: a copy, because importing `cluster` that
early would pin this checkout's package over the one that a Ray job ships.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

State = Literal["works", "shimmed", "needs the shim", "broken"]

HOOK_NAME = "_autodriverl_torchvision_cpu"
FINGERPRINT = "operator torchvision::nms does not exist"
IMPORT_TIMEOUT_S = 120.0

_library: object | None = None
"""The declared operators; torch drops them when this is collected."""


class DeclareOperatorsFirst(importlib.abc.MetaPathFinder):
    """Declares torchvision's operators just before its first import, so that start-up itself does not load torch."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Never finds anything itself; the finders after it do."""
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.origin is not None and built_for_cuda(Path(spec.origin).parent):
                _declare_operators()
        return None


def built_for_cuda(package: Path) -> bool:
    """Whether the torchvision in this folder is a CUDA build (its version ends in +cuNNN)."""
    return "+cu" in (package / "version.py").read_text()


def _declare_operators() -> None:
    global _library
    import torch

    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library = library


def install(site_packages: Path) -> None:
    """Copy this file into an environment and load it at every start of its interpreter."""
    shutil.copyfile(__file__, site_packages / f"{HOOK_NAME}.py")
    (site_packages / f"{HOOK_NAME}.pth").write_text(f"import {HOOK_NAME}\n")


def torchvision_state() -> tuple[State, str]:
    """Whether torchvision imports in this environment, tried in a fresh interpreter.

    Returns:
        The state, and the last line of the import's error (empty where it imports).

    Raises:
        subprocess.TimeoutExpired: the import took longer than two minutes.
    """
    tried = subprocess.run(
        [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S
    )
    if tried.returncode == 0:
        shimmed = (Path(sysconfig.get_path("purelib")) / f"{HOOK_NAME}.pth").is_file()
        return ("shimmed" if shimmed else "works"), ""
    error = (tried.stderr.strip().splitlines() or ["no message"])[-1]
    return ("needs the shim" if FINGERPRINT in error else "broken"), error


def main() -> int:
    """Install the hook where it is needed; say in one line what was found or done."""
    state, error = torchvision_state()
    if state == "needs the shim":
        install(Path(sysconfig.get_path("purelib")))
        state, error = torchvision_state()
    if state in ("needs the shim", "broken"):
        print(f"torchvision does not import: {error}", file=sys.stderr)
        return 1
    if state == "works":
        print("torchvision imports as it is")
    else:
        print("torchvision is a CUDA build beside a CPU torch: its operators are declared at start-up")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
elif __name__ == HOOK_NAME:
    sys.meta_path.insert(0, DeclareOperatorsFirst())
