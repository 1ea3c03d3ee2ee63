"""What the expert shows: the samples of its drives, each turn a question with its images and what it did then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from data.driving.codec import AIMS, codec_of, meant
from data.driving.environment import DrivingSettings, observe
from data.driving.expert import expert_action
from data.driving.families import build_scenario
from data.driving.sensing import DISTANCES, NOTHING
from data.driving.thoughts import PHRASES, thoughts
from data.driving.world import STEPS, World
from data.episode import Start
from data.sample import DrivingSample
from data.tokens.segments import Segment

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
    codec = codec_of(settings.codebook)
    speeds = [f"Speed {speed}, limit {limit}." for speed in range(11) for limit in (8, 9)]
    words = [f" Ahead: {word}." for word in (NOTHING, *(name for _, name in DISTANCES)) for _ in range(4)]
    asked = [" The brake lamp is on.", " What do you do?", " Think, then say what you do."]
    phrases = PHRASES if settings.answer == "think" else ()
    lanes = tuple(f" {text}" for text in AIMS for _ in range(2)) if codec.aims else ()
    return (*speeds, *lanes, *words, *asked, *(text for text in codec.texts for _ in range(3)), *phrases)


def _drive(folder: Path, start: Start, settings: DrivingSettings) -> Iterator[DrivingSample]:
    world, turn = World.begin(build_scenario(start.scenario, start.seed)), 0
    codec = codec_of(settings.codebook)
    while not world.over:
        observation, done = observe(world, settings), codec.expert(world)
        name = f"{start.scenario}-{start.seed}-{turn:03d}"
        paths = {}
        for view, image in observation.images.items():
            path = folder.resolve() / f"{name}-{view}.png"
            Image.fromarray(image).save(path, compress_level=1)
            paths[view] = str(path)
        answer = f"{thoughts(world, expert_action(world))} {done.text}" if settings.answer == "think" else done.text
        yield DrivingSample(name, start.id, name, "behavior", "open_ended", observation.question, answer, paths)
        for _ in range(STEPS):
            if not world.over:
                world.drive(*done.controls(world))
        turn += 1


def driven_segments(start: Start) -> list[Segment]:
    """What the expert means in each turn of a drive, as motions: what a codebook is fitted on."""
    world, found = World.begin(build_scenario(start.scenario, start.seed)), list[Segment]()
    while not world.over:
        action = expert_action(world)
        found.append(meant(world, action))
        world.act(action)
    return found
