"""A reward of one's own: what an answer to "May the ego vehicle go?" is worth. Pure; named in recipe.yaml."""

from __future__ import annotations

from data.sample import DrivingSample
from rewards.format import is_right


def right_and_short(sample: DrivingSample, text: str) -> float:
    """100 for the right verdict in at most three words, 60 for it in more, else 0."""
    if not is_right(sample, text):
        return 0.0
    return 100.0 if len(text.split()) <= 3 else 60.0
