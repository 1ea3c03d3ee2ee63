"""The part of a run's page that shows driving: figures by family, and the same held-out scenario before and after.

Episodes are driven again from their traces. Animations are SVG with SMIL and images are data URIs: no script, no
network.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from data.driving.cameras import grid, look
from data.driving.replay import replayed
from data.driving.road import LEFT_EDGE, RIGHT_EDGE
from data.driving.road_users import SIZES
from data.driving.world import LENGTH, STEP, WIDTH, World
from data.rendered.drawing import PAINT
from evaluation.driving import DrivingResult, EpisodeRecord, PartResult, read_driving

NAMES = {"before": "Before RL", "after": "After RL", "continued_warm_start": "More imitation"}
EVERY = 2
"""Physics steps between two points of an animation."""
LOOKED_BACK_S = 1.0
"""The moment of decision is so long before what happened."""
ENLARGED = 3
COLOURS = {"child": "#fa7a12", "pedestrian": "#ba3c96", "cyclist": "#14a0a0", "building": "#968070", "hedge": "#345c2c"}


@dataclass(frozen=True)
class Drive:
    """One episode as it is shown."""

    title: str
    verdict: str
    score: float
    animation: Markup
    timeline: Markup
    cameras: str
    """Data URI of the six cameras at the moment of decision."""
    moment: str
    """When that was, and what was done."""


@dataclass(frozen=True)
class Shown:
    """A scenario that is shown twice."""

    scenario: str
    gain: float
    drives: tuple[Drive, ...]


def driving_part(folder: Path, shown: int = 2) -> dict[str, Any] | None:
    """What the template inserts; None where the run drove nothing.

    Args:
        folder: of the run.
        shown: how many scenarios of each, those that were mended and those that were broken, are shown.
    """
    found = {name: result for name in NAMES if (result := read_driving(folder, name)) is not None}
    if not found:
        return None
    before, after = found.get("before"), found.get("after")
    mended, broken = _changed(before, after) if before and after else ([], [])
    return {
        "headline": _headline(before, after),
        "columns": [NAMES[name] for name in found],
        "parts": [
            (title, [result.parts.get(part) for result in found.values()])
            for part, title in (("scenarios", "Held-out scenarios"), ("families", "Held-out families"))
        ],
        "families": _families(list(found.values())),
        "mended": len(mended),
        "broken": len(broken),
        "measured": len(after.episodes) if after else 0,
        "shown": [_shown(*pair) for pair in (*mended[:shown], *broken[: max(1, shown // 2)])],
    }


def _headline(before: DrivingResult | None, after: DrivingResult | None) -> str | None:
    """The driving score on held-out scenarios before and after, in a sentence; None until both are measured."""
    if before is None or after is None or not {"scenarios"} <= before.parts.keys() & after.parts.keys():
        return None
    first, last = before.parts["scenarios"], after.parts["scenarios"]
    return (
        f"Driving score on {last.episodes} held-out scenarios: {first.driving_score:.1f} before RL, "
        f"{last.driving_score:.1f} after; collisions per episode {first.collisions:.2f} and {last.collisions:.2f}."
    )


def _families(results: Sequence[DrivingResult]) -> list[tuple[str, list[PartResult | None]]]:
    names = dict.fromkeys(name for result in results for name in result.scenarios)
    rows = [(name, [result.scenarios.get(name) for result in results]) for name in names]
    return sorted(rows, key=lambda row: -(row[1][-1].driving_score if row[1][-1] else 0.0))


Pair = tuple[EpisodeRecord, EpisodeRecord]


def _changed(before: DrivingResult, after: DrivingResult) -> tuple[list[Pair], list[Pair]]:
    """The same scenarios before and after: those whose score rose, most first, and those whose score fell."""
    earlier = {(one.scenario, one.seed): one for one in before.episodes}
    pairs = [
        (earlier[key], one)
        for one in after.episodes
        if (key := (one.scenario, one.seed)) in earlier and one.trace and earlier[key].trace
    ]
    pairs.sort(key=lambda pair: pair[0].driving_score - pair[1].driving_score)
    mended = [pair for pair in pairs if pair[1].driving_score > pair[0].driving_score + 1.0]
    broken = [pair for pair in reversed(pairs) if pair[1].driving_score < pair[0].driving_score - 1.0]
    return _of_different_families(mended), _of_different_families(broken)


def _of_different_families(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs, the first of each family before the others."""
    seen: set[str] = set()
    first, rest = list[Pair](), list[Pair]()
    for pair in pairs:
        (rest if pair[0].scenario in seen else first).append(pair)
        seen.add(pair[0].scenario)
    return [*first, *rest]


def _shown(before: EpisodeRecord, after: EpisodeRecord) -> Shown:
    scenario = f"{before.scenario} {before.seed}".replace("_", " ")
    drives = (_drive("Before RL", before), _drive("After RL", after))
    return Shown(scenario, after.driving_score - before.driving_score, drives)


def _drive(title: str, episode: EpisodeRecord) -> Drive:
    trace, record = episode.trace, episode.record or {}
    moment = _moment(trace)
    world, cameras = None, ""
    for number, world in enumerate(replayed(trace)):
        if number == moment:
            cameras = _png(world)
    assert world is not None
    done = trace["applied"][min(moment, len(trace["applied"]) - 1)] if trace["applied"] else "nothing"
    return Drive(
        title=title,
        verdict=str(record.get("status", "not scored")),
        score=episode.driving_score,
        animation=_animation(trace),
        timeline=_timeline(trace, world.scenario.time_limit),
        cameras=cameras,
        moment=f"{moment * STEP:.1f} s: {done}",
    )


def _moment(trace: dict[str, Any]) -> int:
    """The physics step of the decision: a second before something happened, or where the brakes were first used."""
    if trace["events"]:
        return max(0, round((trace["events"][0][1] - LOOKED_BACK_S) / STEP))
    braked = (number for number, text in enumerate(trace["applied"]) if text.lower().startswith("brake"))
    return next(braked, len(trace["applied"]) // 2)


def _png(world: World) -> str:
    pixels = Image.fromarray(grid(look(world)))
    large = pixels.resize((pixels.width * ENLARGED, pixels.height * ENLARGED), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    large.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _animation(trace: dict[str, Any]) -> Markup:
    """The episode from above: the road, who is on it, the way that was driven, all moving in real time."""
    poses: list[list[tuple[float, float, float]]] = []
    scenario = None
    for number, world in enumerate(replayed(trace)):
        scenario = world.scenario
        if number % EVERY == 0 or number == len(trace["applied"]):
            poses.append([(world.x, world.y, world.yaw), *(world.place_of(user) for user in scenario.users)])
    assert scenario is not None
    seconds = max(0.5, len(trace["applied"]) * STEP)
    centre = [
        scenario.road.pose(s, (LEFT_EDGE + RIGHT_EDGE) / 2)[:2] for s in range(-8, round(scenario.length) + 12, 2)
    ]
    left, right = min(x for x, _ in centre), max(x for x, _ in centre)
    low, high = min(y for _, y in centre) - 13, max(y for _, y in centre) + 13
    shapes = [_box(LENGTH, WIDTH, "#1d5fbf", [pose[0] for pose in poses], seconds)]
    for index, user in enumerate(scenario.users):
        size = SIZES[user.kind]
        colour = COLOURS.get(user.kind) or "rgb({},{},{})".format(*PAINT.get(user.colour, (240, 240, 240)))
        shapes.append(_box(size[0], max(0.8, size[1]), colour, [pose[index + 1] for pose in poses], seconds))
    way = " ".join(f"{row[0]:.1f},{-row[1]:.1f}" for row in trace["path"][::EVERY])
    road = " ".join(f"{x:.1f},{-y:.1f}" for x, y in centre)
    fog = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="#bac0c4" opacity=".45"/>').format(
        f"{left:.0f}", f"{-high:.0f}", f"{right - left:.0f}", f"{high - low:.0f}"
    )
    return Markup(
        '<svg class="bev" viewBox="{left} {top} {width} {height}" role="img" aria-label="the drive from above">'
        '<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="#688a52"/>'
        '<polyline points="{road}" fill="none" stroke="#a8a8a4" stroke-width="{pavement}"/>'
        '<polyline points="{road}" fill="none" stroke="#4e5056" stroke-width="{asphalt}"/>'
        '<polyline points="{way}" fill="none" stroke="#ffd60a" stroke-width=".5" stroke-dasharray="1 .7"/>'
        "{plans}{shapes}{fog}</svg>"
    ).format(
        left=f"{left:.0f}",
        top=f"{-high:.0f}",
        width=f"{right - left:.0f}",
        height=f"{high - low:.0f}",
        road=road,
        way=way,
        plans=_plans(trace.get("plans", [])),
        pavement=f"{LEFT_EDGE - RIGHT_EDGE + 4:.1f}",
        asphalt=f"{LEFT_EDGE - RIGHT_EDGE:.1f}",
        shapes=Markup("").join(shapes),
        fog=fog if scenario.fog is not None else Markup(""),
    )


def _plans(plans: Sequence[Sequence[float]]) -> Markup:
    """Where each action token led from where it was said: a line to a dot."""
    return Markup("").join(
        Markup(
            '<line x1="{0:.2f}" y1="{1:.2f}" x2="{2:.2f}" y2="{3:.2f}" stroke="#ff5a36" stroke-width=".3"/>'
            '<circle cx="{2:.2f}" cy="{3:.2f}" r=".45" fill="#ff5a36"/>'
        ).format(x, -y, to_x, -to_y)
        for x, y, to_x, to_y in plans
    )


def _box(
    length: float, width: float, colour: str, poses: Sequence[tuple[float, float, float]], seconds: float
) -> Markup:
    """A rectangle that is moved and turned through poses, again and again, with a second's rest at the end."""
    body = Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" rx=".4" fill="{}" stroke="#111" stroke-width=".15"/>'
    ).format(-length / 2, -width / 2, length, width, colour)
    first = f"translate({poses[0][0]:.2f} {-poses[0][1]:.2f})"
    turned = f"rotate({-math.degrees(poses[0][2]):.1f})"
    if len(set(poses)) == 1:
        return Markup('<g transform="{} {}">{}</g>').format(first, turned, body)
    times = ";".join(f"{seconds / (seconds + 1.0) * n / (len(poses) - 1):.4f}" for n in range(len(poses))) + ";1"
    moves = ";".join(f"{x:.2f} {-y:.2f}" for x, y, _ in (*poses, poses[-1]))
    turns = ";".join(f"{-math.degrees(yaw):.1f}" for _, _, yaw in (*poses, poses[-1]))
    timing = Markup('dur="{}s" repeatCount="indefinite" keyTimes="{}"').format(f"{seconds + 1.0:.1f}", times)
    return Markup(
        '<g transform="{}"><animateTransform attributeName="transform" type="translate" values="{}" {}/>'
        '<g transform="{}"><animateTransform attributeName="transform" type="rotate" values="{}" {}/>{}</g></g>'
    ).format(first, moves, timing, turned, turns, timing, body)


def _timeline(trace: dict[str, Any], limit: float) -> Markup:
    """Speed over time, with what happened where it did."""
    speeds = [row[3] for row in trace["path"]]
    points = " ".join(f"{n * STEP / limit * 300:.1f},{40 - speed * 3.4:.1f}" for n, speed in enumerate(speeds))
    marks = Markup("").join(
        Markup(
            '<line class="event" x1="{0}" x2="{0}" y1="4" y2="42"/><text x="{0}" y="54" text-anchor="{1}">{2}</text>'
        ).format(
            f"{time / limit * 300:.1f}",
            "end" if time > limit * 0.6 else "start",
            f"{kind.replace('_', ' ')} {what}".strip(),
        )
        for kind, time, what in trace["events"]
    )
    return Markup(
        '<svg class="drive-line" viewBox="0 0 300 58" role="img" aria-label="speed and events over time">'
        '<line class="grid" x1="0" x2="300" y1="40" y2="40"/><polyline class="speed" points="{}"/>{}'
        '<text x="0" y="9">m/s</text></svg>'
    ).format(points, marks)
