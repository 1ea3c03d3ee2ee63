"""How a learning rate rises and falls over the steps of a run. Pure numbers; knows no optimizer."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def fallen(schedule: Schedule, gone: float) -> float:
    """The share of the learning rate that is left when the share `gone` of the way is behind; 1 to 0."""
    return {"constant": 1.0, "linear": 1.0 - gone, "cosine": (1.0 + math.cos(math.pi * gone)) / 2}[schedule]


def scheduled(schedule: Schedule, step: int, steps: int, warmup: int, floor: float = 0.0) -> float:
    """The share of the learning rate for a step of reinforcement.

    Args:
        schedule: how it falls after the warm-up.
        step: from 1 on.
        steps: all of the run's; after the last one the share would be `floor`.
        warmup: steps over which it rises linearly from 0.
        floor: the share that is left at the end of a schedule that falls.
    """
    rising = min(1.0, step / max(1, warmup))
    gone = min(1.0, max(0.0, step - 1 - warmup) / max(1, steps - warmup))
    return rising * (floor + (1.0 - floor) * fallen(schedule, gone))
