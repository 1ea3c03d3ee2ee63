"""An environment of your own, whole: a text task in which the policy uses a tool turn by turn. No images.

    python train_grpo.py my_recipe.yaml environment.name=docs.examples.sums:Sums environment.options.longest=6 \
        environment.weights='{right: 100, call: -5}'
"""

from __future__ import annotations

import random
import re

from pydantic import BaseModel, ConfigDict, Field

from data.environment import Observation, Outcome, Step
from data.errors import DataError

CALL = re.compile(r"\badd (\d)\b", re.IGNORECASE)


class Sums:
    """The policy adds digits with a tool until it says `done`; what counts is whether it then has the sum asked for."""

    class Settings(BaseModel):
        """`environment.options`."""

        model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

        longest: int = Field(6, ge=1)
        """Calls of the tool after which the episode ends."""

    measures = ("right", "call", "unknown")

    def __init__(self, settings: Settings) -> None:
        """Take the options; nothing is begun."""
        self.settings = settings

    def scenarios(self, *, held_out: bool) -> tuple[str, ...]:
        """Small sums are trained on, large ones are only measured."""
        return ("large",) if held_out else ("small", "medium")

    def reset(self, scenario: str, seed: int) -> Observation:
        """Draw a goal; the same for the same arguments."""
        if scenario not in ("small", "medium", "large"):
            raise DataError(f"there is no scenario {scenario!r}; there are small, medium and large")
        most = {"small": 9, "medium": 18, "large": 36}[scenario]
        self.goal, self.total, self.calls = random.Random(f"{scenario} {seed}").randint(2, most), 0, 0
        return self._shown()

    def step(self, response: str, seconds: float) -> Step:
        """Add what the response calls for; `done`, or too many calls, end the episode."""
        call = CALL.search(response)
        self.total += int(call[1]) if call else 0
        self.calls += 1
        over = "done" in response.lower() or self.calls >= self.settings.longest
        measures = {"call": 1.0, "right": float(over and self.total == self.goal), "unknown": float(not (call or over))}
        events = () if call or over else (f"unknown_action: {response[:40]!r} calls no tool",)
        return Step(None if over else self._shown(), measures, events)

    def outcome(self) -> Outcome:
        """Nothing but the score is kept."""
        return Outcome()

    def _shown(self) -> Observation:
        return Observation(
            f"Make {self.goal}. You have {self.total}. Say: add 1 to 9, or done.", state={"total": self.total}
        )
