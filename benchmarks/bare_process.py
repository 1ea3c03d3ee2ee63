"""A process that does the same work each time it is asked, apart from what it is compared with."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
END_S = 60.0


@contextlib.contextmanager
def bare_process(arguments: list[str], environment: Mapping[str, str]) -> Iterator[Callable[[str], float]]:
    """`python -m` with these arguments; called with a line it hands that over, and returns the seconds it reports."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def work(line: str) -> float:
        stdin.write(line + "\n")
        stdin.flush()
        for answer in stdout:
            if answer.startswith("seconds "):
                return float(answer.split()[1])
        raise RuntimeError(f"the process of {arguments[0]} ended")

    try:
        yield work
    finally:
        stdin.close()
        process.wait(timeout=END_S)
