"""DeepSpeed's shared-memory op for CPU learners: built once per environment, never blocked by a build that was killed.

torch guards an extension's folder by a plain file: a process killed while it builds, or even while it loads, leaves
that file behind and every later one waits on it for ever. Here the kernel's own lock stands around it, which ends with
its process; a process that holds it knows that torch's file is left over. Knows nothing of Ray.

    python -m actors.learning.deepspeed_op    # build it now, as the set-up does
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from filelock import FileLock

OP = "deepspeed_shm_comm"
BUILD_TIMEOUT_S = 300.0
"""Compiling takes one to two minutes on two cores."""


def op_folder() -> Path:
    """Where the op is built: in this environment, since environments that share a folder undo each other's builds.

    `TORCH_EXTENSIONS_DIR` decides where it is set; an environment that cannot be written to leaves it to the cache.
    """
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        parent = Path(sys.prefix) if os.access(sys.prefix, os.W_OK) else Path.home() / ".cache" / "autodriverl"
        root = str(parent / "torch_extensions")
    return Path(root) / OP


def load_shared_memory_op() -> None:
    """Compile the op if need be and load it into this process, where DeepSpeed then finds it.

    Raises:
        filelock.Timeout: another process has been building it for five minutes.
        RuntimeError: it does not compile; the compiler's words are on stderr.
    """
    from deepspeed.accelerator import get_accelerator

    folder = op_folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder.parent)
    with FileLock(folder.parent / f"{OP}.lock", timeout=BUILD_TIMEOUT_S):
        (folder / "lock").unlink(missing_ok=True)
        get_accelerator().create_op_builder("ShareMemCommBuilder").load()


if __name__ == "__main__":
    load_shared_memory_op()
