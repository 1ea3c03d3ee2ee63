"""Benchmarks that stand on the insides of this project still run: a step or two of each, whose figures say nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import overlap
from benchmarks.memory import errors, step_times

pytestmark = pytest.mark.slow


def test_the_pipeline_of_the_overlap_takes_steps(ray_session: None, tmp_path: Path) -> None:
    found = asyncio.run(overlap.overlapped(1, overlap.WARM_UP + 1, tmp_path))
    assert 0.9 < found["step_over_longest_stage_1"] < 1.9, "2 is without any overlap"
    assert found["oldest_1"] == 1


def test_the_two_ways_of_the_log_probabilities_agree_and_are_timed() -> None:
    assert max(errors().values()) < 1e-5
    seconds = step_times(1)["step_seconds"]
    assert set(seconds) == {"whole", "chunked"}
