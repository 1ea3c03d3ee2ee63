"""What `make test-fast` runs starts no other process: no engine, no cluster, no script."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-c", ""]),
        lambda: os.system("true"),
        lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
        lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    ],
    ids=["subprocess", "system", "spawn", "fork"],
)
def test_a_fast_test_that_starts_a_process_fails(start: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match=r"mark it pytest\.mark\.slow"):
        start()


@pytest.mark.slow
def test_a_slow_one_may() -> None:
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
