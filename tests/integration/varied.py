"""A reward that differs from answer to answer, for policies that were not taught enough to earn one."""

from __future__ import annotations

import zlib

from data.sample import DrivingSample

VARIED = (
    "reward.routes=[{kind: any, scorers: {'tests.integration.varied:chance': 1.0}}]",
    "reward.gate={overlong: false, max_repeated_sentence: 99, max_repeated_share: 1.0}",
)
"""Overrides with which the rewards of a group are hardly ever equal, so that every step learns."""


def chance(sample: DrivingSample, text: str) -> float:
    """0 to 100 by a checksum of the text."""
    return float(zlib.crc32(text.encode()) % 101)
