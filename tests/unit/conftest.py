"""Hypothesis without a deadline, and the promise of `make test-fast`: a test that is not `slow` starts no process."""

from __future__ import annotations

import multiprocessing.process
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine must not fail a test of what is computed
settings.load_profile("unhurried")

HERE = Path(__file__).parent
STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
_fast = False
_start = multiprocessing.process.BaseProcess.start


def _refuse(event: str, arguments: tuple[Any, ...] = ()) -> None:
    if _fast and event in STARTS:
        raise AssertionError(f"{event} in a fast test: mark it pytest.mark.slow")


def _refuse_or_start(self: multiprocessing.process.BaseProcess) -> None:
    _refuse("os.fork")  # multiprocessing has events for some of its ways only
    _start(self)


sys.addaudithook(_refuse)
multiprocessing.process.BaseProcess.start = _refuse_or_start  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard a test and its fixtures; pytest calls this for the tests of other folders too."""
    global _fast
    _fast = item.path.is_relative_to(HERE) and item.get_closest_marker("slow") is None
    try:
        return (yield)
    finally:
        _fast = False
