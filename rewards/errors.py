"""The one error of `rewards/` that a person can act on."""

from __future__ import annotations


class RewardError(ValueError):
    """A reward that cannot be used as the recipe asks; the message names the setting and what to do."""
