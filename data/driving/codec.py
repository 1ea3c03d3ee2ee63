"""How a policy's answers drive the world: by words for pedals and wheel, or by action tokens that name a motion.

A codec reads an answer as a `Manoeuvre`, which gives acceleration and steering for one physics step after another, and
says what the expert does in its own language. `DrivingSettings` names the one that is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

from data.driving.actions import ACCELERATION, ACTIONS, PEDALS, Action, read_action
from data.driving.controller import Controller
from data.driving.expert import expert_action, is_safe
from data.driving.world import MAX_STEER, STEP, STEPS, WHEELBASE, World
from data.tokens.codebook import Codebook
from data.tokens.seal import located
from data.tokens.segments import Segment, segment_between
from data.tokens.words import Unreadable, action_word
from data.tokens.words import read_action as read_code

SHIPPED = "data/driving/action_codebook.json"
"""The codebook of the embedded world's expert, as `python -m commands.driving_tokens actions` fits it."""
SHIPPED_NAME = "driving"
"""How a recipe names it."""
STRONGEST, HARDEST = ACCELERATION["accelerate"], -ACCELERATION["brake hard"]
"""m/s² of the whole accelerator and of the whole brake."""
AIM_STEP, AIM_MOST = 2, 30
"""Degrees in which the dashboard tells where the lane's middle is, and the most that it tells."""


class Manoeuvre(Protocol):
    """What is done from one answer to the next."""

    @property
    def text(self) -> str:
        """How it is written."""

    def controls(self, world: World) -> tuple[float, float]:
        """Commanded acceleration (m/s²) and angle of the front wheels (radians) for the next physics step."""


class Codec(Protocol):
    """One language for what is done."""

    aims: bool
    """Whether the dashboard must tell where the lane leads: the wheel follows the answer alone."""

    def begin(self) -> Manoeuvre:
        """What is done before the first answer."""

    def read(self, text: str) -> Manoeuvre | str:
        """What an answer says; a name and a sentence for an event where it says nothing that can be done."""

    def expert(self, world: World) -> Manoeuvre:
        """What the expert does now."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that `expert` may say."""


@dataclass
class Words:
    """Four words for the pedals and three for the wheel, which follows the lane by itself."""

    action: Action = Action()  # noqa: RUF009  (frozen)

    @property
    def text(self) -> str:
        """`Brake, left.`"""
        return self.action.text

    def controls(self, world: World) -> tuple[float, float]:
        """The word's acceleration; pure pursuit of the lane's middle."""
        return world.controls_of(self.action)


class WordCodec:
    """Answers as `Brake, left.`"""

    aims = False

    def begin(self) -> Words:
        """Hold the speed, straight on."""
        return Words()

    def read(self, text: str) -> Words | str:
        """The last action that a text names."""
        said = read_action(text)
        return Words(said) if said else f"unknown_action: {text[:60]!r} names no action"

    def expert(self, world: World) -> Words:
        """As `expert_action`."""
        return Words(expert_action(world))

    @property
    def texts(self) -> tuple[str, ...]:
        """The twelve actions."""
        return tuple(action.text for action in ACTIONS)


class Motion:
    """A code of a codebook, followed by a controller; when its half second has passed it is begun again."""

    def __init__(self, code: int, segment: Segment) -> None:
        """Not begun: the first physics step says from where."""
        self.code, self.segment = code, segment
        self._controller = Controller(WHEELBASE, MAX_STEER, STRONGEST, HARDEST)
        self._steps = 0

    @property
    def text(self) -> str:
        """Its token."""
        return action_word(self.code)

    def end(self, world: World) -> tuple[float, float]:
        """Where it leads from where the world is now: x and y."""
        ahead, left, yaw = self.segment.ahead, self.segment.left, world.yaw
        x = world.x + ahead * math.cos(yaw) - left * math.sin(yaw)
        return round(x, 2), round(world.y + ahead * math.sin(yaw) + left * math.cos(yaw), 2)

    def controls(self, world: World) -> tuple[float, float]:
        """Of the controller, once for every physics step."""
        pose = (world.x, world.y, world.yaw)
        if self._steps % STEPS == 0:
            self._controller.begin([(self.segment.ahead, self.segment.left)], pose, world.speed)
        self._steps += 1
        steer, throttle, brake = self._controller.step(pose, world.speed, STEP)
        return throttle * STRONGEST - brake * HARDEST, steer * MAX_STEER


class TokenCodec:
    """Answers as `<act_0421>`."""

    aims = True

    def __init__(self, book: Codebook) -> None:
        """Speak the language of a codebook."""
        self.book = book

    def begin(self) -> Motion:
        """Roll on straight at about a trot."""
        return self._motion(self.book.nearest([Segment(2.0, 0.0, 0.0)])[0])

    def read(self, text: str) -> Motion | str:
        """The last token of an answer."""
        code = read_code(text, len(self.book.codes))
        if isinstance(code, Unreadable):
            return f"unknown_action: {code.reason}: {code.sentence}"
        return self._motion(code)

    def expert(self, world: World) -> Motion:
        """The code nearest to what the expert's action does in half a second; where that is a risk, to hard braking."""
        action = expert_action(world)
        brake, hard = (Action(pedal, action.wheel) for pedal in PEDALS[2:])
        nearest, cautious = self.book.nearest([meant(world, action), meant(world, hard)])
        safe = is_safe(world, self._motion(nearest).controls, brake)
        return self._motion(nearest if safe else cautious)

    @property
    def texts(self) -> tuple[str, ...]:
        """None: its tokens are added to the tokenizer, which need not learn them."""
        return ()

    def _motion(self, code: int) -> Motion:
        return Motion(code, self.book.codes[code])


def meant(world: World, action: Action) -> Segment:
    """The motion that an action stands for, with brakes and accelerator that obey at once."""
    twin = world.copy()
    twin.scenario = replace(twin.scenario, users=[], light=None, lag=0.0)
    twin.forget_pedals()
    before, steers = (twin.x, twin.y, twin.yaw), list[float]()
    for _ in range(STEPS):
        push, steering = twin.controls_of(action)
        steers.append(max(-1.0, min(1.0, steering / MAX_STEER)))
        twin.drive(push, steering)
    return segment_between(
        before,
        (twin.x, twin.y, twin.yaw),
        sum(steers) / STEPS,
        max(0.0, push / STRONGEST),
        max(0.0, -push / HARDEST),
    )


def aim(world: World) -> int:
    """Where the middle of the lane is a little ahead, in degrees to the left of straight on, as the dashboard says."""
    ahead = max(4.0, 0.8 * world.speed)
    x, y, _ = world.scenario.road.pose(world.s + ahead, 0.0)
    bearing = math.degrees(math.atan2(y - world.y, x - world.x) - world.yaw)
    bearing = (bearing + 180.0) % 360.0 - 180.0
    return max(-AIM_MOST, min(AIM_MOST, AIM_STEP * round(bearing / AIM_STEP)))


def aim_text(degrees: int) -> str:
    """How it is written."""
    side = "left" if degrees > 0 else "right"
    return f"Lane {abs(degrees)} {side}." if degrees else "Lane straight on."


AIMS = tuple(aim_text(degrees) for degrees in range(-AIM_MOST, AIM_MOST + 1, AIM_STEP))


@cache
def codec_of(codebook: str | None) -> Codec:
    """The codec of `DrivingSettings.codebook`.

    Raises:
        DataError: the file is no codebook.
    """
    return WordCodec() if codebook is None else TokenCodec(book_of(codebook))


@cache
def book_of(codebook: str) -> Codebook:
    """The codebook that a recipe names: `driving` is the one that is shipped.

    Raises:
        DataError: the file is no codebook.
    """
    return Codebook.read(located(SHIPPED if codebook == SHIPPED_NAME else codebook))
