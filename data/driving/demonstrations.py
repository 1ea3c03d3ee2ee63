"""What the expert shows: the samples of its drives, each turn a question with its images and what it did then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from data.driving.actions import ACTIONS
from data.driving.environment import DrivingSettings, observe
from data.driving.expert import expert_action
from data.driving.families import build_scenario
from data.driving.sensing import DISTANCES, NOTHING
from data.driving.thoughts import PHRASES, thoughts
from data.driving.world import World
from data.episode import Start
from data.sample import DrivingSample

FORMAT = 1
"""Raised whenever the world or its pictures change, so that a folder drawn by older code is not taken for a new one."""


def demonstrations(folder: Path, starts: Sequence[Start], settings: DrivingSettings) -> list[DrivingSample]:
    """The samples of the expert's drives from these starts, their images under `folder`; a complete one is reused."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"complete-{settings.answer}-{settings.views}-{FORMAT}.json"
    wanted = [start.id for start in starts]
    if manifest.is_file():
        kept = json.loads(manifest.read_text())
        if kept["starts"] == wanted:
            return [DrivingSample(**one) for one in kept["samples"]]
    samples = [sample for start in starts for sample in _drive(folder, start, settings)]
    fields = ("id", "scene_id", "frame_id", "task", "kind", "question", "answer", "images")
    rows = [{name: getattr(sample, name) for name in fields} for sample in samples]
    manifest.write_text(json.dumps({"starts": wanted, "samples": rows}))
    return samples


def spoken_text(settings: DrivingSettings) -> tuple[str, ...]:
    """Every text that questions and answers are put together from."""
    speeds = [f"Speed {speed}, limit {limit}." for speed in range(11) for limit in (8, 9)]
    words = [f" Ahead: {word}." for word in (NOTHING, *(name for _, name in DISTANCES)) for _ in range(4)]
    asked = [" The brake lamp is on.", " What do you do?", " Think, then say what you do."]
    phrases = PHRASES if settings.answer == "think" else ()
    return (*speeds, *words, *asked, *(action.text for action in ACTIONS for _ in range(3)), *phrases)


def _drive(folder: Path, start: Start, settings: DrivingSettings) -> Iterator[DrivingSample]:
    world, turn = World.begin(build_scenario(start.scenario, start.seed)), 0
    while not world.over:
        observation, action = observe(world, settings), expert_action(world)
        name = f"{start.scenario}-{start.seed}-{turn:03d}"
        paths = {}
        for view, image in observation.images.items():
            path = folder.resolve() / f"{name}-{view}.png"
            Image.fromarray(image).save(path, compress_level=1)
            paths[view] = str(path)
        answer = f"{thoughts(world, action)} {action.text}" if settings.answer == "think" else action.text
        yield DrivingSample(name, start.id, name, "behavior", "open_ended", observation.question, answer, paths)
        world.act(action)
        turn += 1
