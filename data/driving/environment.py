"""`Driving`: the closed-loop world as an `Environment`: what is asked and shown, what a turn is worth, what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data.driving.actions import Action
from data.driving.cameras import Pixels, grid, look
from data.driving.codec import Manoeuvre, Motion, Words, aim, aim_text, codec_of
from data.driving.families import FAMILIES, HELD_OUT, build_scenario
from data.driving.record import bench2drive_record, drawn
from data.driving.sensing import dashboard
from data.driving.world import STEP, STEPS, World
from data.environment import Observation, Outcome, Step

GRID = "GRID"
"""The name of the one image that holds all six cameras."""
HARD = 4.05
"""Deceleration in m/s² above which a ride is uncomfortable (Bench2Drive's bound)."""


class DrivingSettings(BaseModel):
    """`environment.options` of the closed-loop world."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    answer: Literal["act", "think"] = "act"
    """What is asked for: the action alone, or perception, prediction, planning and behavior in words before it."""
    views: Literal["grid", "six"] = "grid"
    """Show the six cameras as one image of 192 x 72 pixels, or as six of 64 x 36."""
    codebook: str | None = None
    """Answers are action tokens of this codebook: a file that `python -m commands.driving_tokens actions` wrote, or
    `driving`, the one that is shipped; None: answers are words. The wheel then follows the tokens alone, and the
    dashboard says where the lane leads. `policy.heads.actions` must name the same one."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """The scenario families that are trained on."""
    held_out_families: tuple[str, ...] = tuple(HELD_OUT)
    """Those that are only measured."""


class Driving:
    """An episode of the closed-loop world."""

    Settings = DrivingSettings
    measures = ("progress", "collision", "off_road", "red_light", "outside_lane", "discomfort")

    def __init__(self, settings: DrivingSettings) -> None:
        """See `Environment`.

        Raises:
            DataError: a family is unknown.
        """
        self.settings = settings
        for family in (*settings.families, *settings.held_out_families):
            build_scenario(family, 0)
        self._before: Manoeuvre = Words()
        self._queued = list[tuple[int, Manoeuvre]]()
        self._actions, self._applied = list[str](), list[str]()
        self._controls = list[tuple[float, float]]()
        self._plans = list[tuple[float, ...]]()

    def scenarios(self, *, held_out: bool) -> tuple[str, ...]:
        """The families."""
        return self.settings.held_out_families if held_out else self.settings.families

    def reset(self, scenario: str, seed: int) -> Observation:
        """See `Environment`."""
        self.world = World.begin(build_scenario(scenario, seed))
        self._codec = codec_of(self.settings.codebook)
        self._before, self._queued = self._codec.begin(), []
        self._actions, self._applied, self._controls, self._plans = [], [], [], []
        return observe(self.world, self.settings)

    def step(self, response: str, seconds: float) -> Step:
        """Do what the response says; until its time has passed, go on with what was said before.

        A response that names no action is an event, and what was said before goes on.
        """
        world, read = self.world, self._codec.read(response)
        said, events = (None, [read]) if isinstance(read, str) else (read, [])
        self._actions.append((said or self._before).text)
        if isinstance(said, Motion):
            self._plans.append((round(world.x, 2), round(world.y, 2), *said.end(world)))
        seen, measures = len(world.events), self.drive(said, seconds)
        events += [f"{event.kind}: {event.with_what}".rstrip(": ") for event in world.events[seen:]]
        complete = said is not None and response.lower().rstrip(". \n").endswith(said.text.lower().rstrip("."))
        return Step(None if world.over else observe(world, self.settings), measures, tuple(events), complete)

    def act(self, said: Action, seconds: float = 0.0) -> dict[str, float]:
        """As `drive`, for an action."""
        return self.drive(Words(said), seconds)

    def drive(self, said: Manoeuvre | None, seconds: float = 0.0) -> dict[str, float]:
        """One turn, with nothing drawn: what was done before goes on until `seconds` have passed; what came of it."""
        world = self.world
        progress, outside, seen, first = world.progress, world.outside, len(world.events), len(world.trace)
        if said:
            self._queued.append((round(seconds / STEP), said))
        for _ in range(STEPS):
            ready = [action for delay, action in self._queued if delay <= 0]
            self._before = ready[-1] if ready else self._before
            self._queued = [(delay - 1, action) for delay, action in self._queued if delay > 0]
            if not world.over:
                controls = self._before.controls(world)
                self._applied.append(self._before.text)
                self._controls.append(controls)
                world.drive(*controls)
        kinds = [event.kind for event in world.events[seen:]]
        length = world.scenario.length
        hard = [one[4] for one in world.trace[first:] if one[4] < -HARD]
        return {
            "progress": (min(world.progress, length) - min(progress, length)) / length,
            "collision": float(sum(kind.startswith("collision") for kind in kinds)),
            "off_road": float(kinds.count("off_road")),
            "red_light": float(kinds.count("red_light")),
            "outside_lane": (world.outside - outside) / length,
            "discomfort": len(hard) / STEPS,
        }

    def outcome(self) -> Outcome:
        """The record of the route, and what an animation of it needs."""
        driven = {"actions": self._actions, "applied": self._applied, "controls": self._controls}
        trace = (
            drawn(self.world)
            | driven
            | ({"codebook": self.settings.codebook, "plans": self._plans} if self.settings.codebook else {})
        )
        return Outcome(bench2drive_record(self.world), trace)


def observe(world: World, settings: DrivingSettings) -> Observation:
    """What the policy is shown now."""
    images: Mapping[str, Pixels] = look(world)
    shown = {GRID: grid(dict(images))} if settings.views == "grid" else images
    state: dict[str, Any] = {"speed": world.speed, "progress": world.progress, "x": world.x, "y": world.y}
    return Observation(question(world, settings), shown, state)


def question(world: World, settings: DrivingSettings) -> str:
    """The words of a turn: the dashboard (speed, limit, distance ahead, brake lamp), and what is asked for.

    Where tokens turn the wheel it says where the lane leads, as a navigation does.
    """
    lane = f" {aim_text(aim(world))}" if codec_of(settings.codebook).aims else ""
    lamp = " The brake lamp is on." if world.scenario.warning else ""
    asked = "What do you do?" if settings.answer == "act" else "Think, then say what you do."
    ahead = f" Ahead: {dashboard(world)}."
    return f"Speed {round(world.speed)}, limit {round(world.scenario.limit)}.{lane}{ahead}{lamp} {asked}"
