"""Rewards of one's own that a run is scored anew by."""

from __future__ import annotations

from data.sample import DrivingSample


def upside_down(sample: DrivingSample, response: str) -> float:
    return 0.0 if response.startswith(sample.answer) else 100.0


def all_alike(sample: DrivingSample, response: str) -> float:
    return 30.0
