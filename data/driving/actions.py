"""What a policy can say: four words for the pedals, three for the wheel. Text in, text out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Pedal = Literal["accelerate", "hold", "brake", "brake hard"]
Wheel = Literal["left", "straight", "right"]
PEDALS: tuple[Pedal, ...] = get_args(Pedal)
WHEELS: tuple[Wheel, ...] = get_args(Wheel)

ACCELERATION: dict[Pedal, float] = {"accelerate": 2.2, "hold": 0.0, "brake": -3.5, "brake hard": -7.0}
"""m/s²."""
OFFSET: dict[Wheel, float] = {"left": 1.5, "straight": 0.0, "right": -1.0}
"""Metres to the left of the lane's middle that are steered for."""
_SHAPE = re.compile(r"\b(accelerate|hold|brake hard|brake)\b[\s,]+(left|straight|right)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Action:
    """What is done until the next one."""

    pedal: Pedal = "hold"
    wheel: Wheel = "straight"

    @property
    def text(self) -> str:
        """How it is written: `Brake, left.`"""
        return f"{self.pedal.capitalize()}, {self.wheel}."


ACTIONS: tuple[Action, ...] = tuple(Action(pedal, wheel) for pedal in PEDALS for wheel in WHEELS)


def read_action(text: str) -> Action | None:
    """The last action that a text names; None where it names none."""
    found = _SHAPE.findall(text)
    if not found:
        return None
    pedal, wheel = (word.lower() for word in found[-1])
    return Action(pedal, wheel)
