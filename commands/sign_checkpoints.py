"""Sign the checkpoints of a run that you trust: one of an earlier version, or of a machine with another key.

python -m commands.sign_checkpoints runs/tiny

A checkpoint holds pickled files, which run code when they are loaded. So a run goes on only from checkpoints that are
signed with this user's key; sign those of others only where you know who wrote them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from actors.checkpoint import sign_checkpoints
from commands.script import command
from failures import RunFolderError


def main(arguments: list[str]) -> int:
    """Sign; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.sign_checkpoints", description="Sign the checkpoints of a run that you trust."
    )
    parser.add_argument("run_folder", type=Path, help="folder of the run, such as runs/tiny")
    folder: Path = parser.parse_args(arguments).run_folder
    lines = sign_checkpoints(folder)
    if not lines:
        raise RunFolderError(f"{folder} is not the folder of a run with checkpoints: there are none below it")
    print(*lines, sep="\n")
    return 0


if __name__ == "__main__":
    command(main)
