"""What loading images and scoring texts cost: `python -m benchmarks.data [--part loader]`. One thread everywhere.

Every part runs in a process of its own; the last line is one JSON object with the figures of all.

- loader: from a sample with six JPEG cameras of 1600x900 to pixel tensors, as a learner and the transformers engine do
  it (`PromptEncoder`, caches empty), against Pillow's open, convert and resize and the same processor called with the
  frames. Both sides take turns, and swap which goes first. Pixels are compared once. Two processes: training has no
  loader process beside its ranks and engines, each of which encodes what it needs; so two processes with an encoder
  each, on half of the samples, against two that do it by hand.
- bdd_oia: from 100,000 outputs to BDD-OIA's figures, median of 3, process warm.
- drivelm_language: from 100,000 pairs of texts to DriveLM's language figures, once.

Ratios are medians over the pairs of passes, by the clock and by processor time (which other work disturbs less).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, LlavaProcessor

from benchmarks.frames import grainy_frame
from benchmarks.made_up_answers import bdd_oia_outputs, drivelm_pairs
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH, DrivingSample
from evaluation.metrics.bdd_oia import score
from evaluation.metrics.language import language_scores
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.tokenizer import IMAGE_TOKEN, train_tokenizer
from policies.views import views_of

ROOT = Path(__file__).resolve().parents[1]
SIDE, PATCH = 336, 14
"""What DriveRX's tower sees: a whole frame at 336x336."""
JPEG_QUALITY = 75
TEXTS = 100_000
PROCESSES = 2

Seconds = tuple[float, float]
"""By the clock, and of processor time."""


def main() -> None:
    """Measure each part in a process of its own, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="samples in one pass, six frames each")
    parser.add_argument("--pairs", type=int, default=15, help="passes of either side")
    parser.add_argument("--texts", type=int, default=TEXTS, help="outputs to score; times are scaled to 100,000")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    options = parser.parse_args()
    if options.part:
        torch.set_num_threads(1)
        print(json.dumps(PARTS[options.part](options)))
        return
    figures: dict[str, Any] = {}
    for part in PARTS:
        figures |= _in_a_process(part, sys.argv[1:])
    print(json.dumps(figures))


def _in_a_process(part: str, arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.data", *arguments, "--part", part]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- the loader -------------------------------------------------------------------------------------------------------


class Ways:
    """The ways from samples to pixel tensors, with one processor."""

    def __init__(self) -> None:
        """Build the processor; no download."""
        tokenizer = train_tokenizer(driving_text(), 1024)
        self.processor = LlavaProcessor(
            image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
            tokenizer=tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=tokenizer.chat_template,
        )
        self.by_name: dict[str, Callable[[Sequence[DrivingSample]], list[Tensor]]] = {
            "ours": self.ours,
            "raw": self.raw,
            "image_processor": self.image_processor,
        }

    def ours(self, samples: Sequence[DrivingSample]) -> list[Tensor]:
        """As training does it; nothing is known of the frames."""
        encoder = PromptEncoder(self.processor, PolicySettings(model="none", image_size=(SIDE, SIDE)))
        return [encoder.image_tensors(views_of(sample))["pixel_values"] for sample in samples]

    def raw(self, samples: Sequence[DrivingSample]) -> list[Tensor]:
        """Pillow and the processor."""
        text = IMAGE_TOKEN * len(CAMERAS)
        return [self.processor(images=_frames(s), text=text, return_tensors="pt")["pixel_values"] for s in samples]

    def image_processor(self, samples: Sequence[DrivingSample]) -> list[Tensor]:
        """Pillow and the part of the processor that never sees the placeholders of the text."""
        of_images = self.processor.image_processor
        return [of_images(images=_frames(sample), return_tensors="pt")["pixel_values"] for sample in samples]

    def seconds(self, way: str, samples: Sequence[DrivingSample]) -> Seconds:
        """What one pass takes."""
        began = time.perf_counter(), time.process_time()
        self.by_name[way](samples)
        return time.perf_counter() - began[0], time.process_time() - began[1]


def _frames(sample: DrivingSample) -> list[Image.Image]:
    opened = (Image.open(sample.images[camera]).convert("RGB") for camera in CAMERAS)
    return [image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in opened]


def loader(options: argparse.Namespace) -> dict[str, Any]:
    """Frames per second of our path over those of a bare one, in one process and in two."""
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        samples = _samples(Path(folder), options.samples)
        ways = Ways()
        gaps = [
            float((ours - raw).abs().max()) for ours, raw in zip(ways.ours(samples), ways.raw(samples), strict=True)
        ]
        alone = _race(lambda way: ways.seconds(way, samples), ["ours", "raw", "image_processor"], options.pairs)
        with _in_two_processes(samples) as pass_of:
            both = _race(pass_of, ["ours", "raw"], options.pairs)
        sizes = [os.path.getsize(path) for sample in samples for path in sample.images.values()]
    frames = len(CAMERAS) * len(samples)
    return {
        **_ratio("loader_over_raw_one_core", alone["ours"], alone["raw"]),
        **_ratio("loader_over_image_processor_one_core", alone["ours"], alone["image_processor"]),
        **_ratio("loader_over_two_processes", both["ours"], both["raw"]),
        "frames_per_s_one_core": _rate(frames, alone["ours"]),
        "frames_per_s_raw_one_core": _rate(frames, alone["raw"]),
        "frames_per_s_two_processes": _rate(frames, both["ours"]),
        "frames_per_s_raw_two_processes": _rate(frames, both["raw"]),
        "largest_difference": max(gaps),
        "peak_memory_mib": _peak_mib(),
        "frame": f"JPEG {IMAGE_WIDTH}x{IMAGE_HEIGHT}, {round(statistics.mean(sizes) / 1024)} KiB",
        "processor": f"{type(ways.processor).__name__}, {type(ways.processor.image_processor).__name__}, {SIDE}x{SIDE}",
        "samples": len(samples),
        "pairs": options.pairs,
    }


def _samples(folder: Path, count: int) -> list[DrivingSample]:
    """One sample for each scene, with frames in a photograph's size."""
    first = {sample.scene_id: sample for sample in reversed(rendered_samples(folder / "scenes", count, seed=0))}
    found = []
    for number, sample in enumerate(first.values()):
        images: dict[str, str] = {camera: str(folder / f"{number}_{camera}.jpg") for camera in CAMERAS}
        for at, camera in enumerate(CAMERAS):
            frame = grainy_frame(number * len(CAMERAS) + at, camera, (IMAGE_WIDTH, IMAGE_HEIGHT))
            frame.save(images[camera], quality=JPEG_QUALITY)
        found.append(replace(sample, images=images))
    return found


def _race(pass_of: Callable[[str], Seconds], ways: list[str], pairs: int) -> dict[str, list[Seconds]]:
    """What each pass of each way took; they take turns, and the first turn is not counted."""
    found: dict[str, list[Seconds]] = {way: [] for way in ways}
    for turn in range(pairs + 1):
        for way in ways if turn % 2 else ways[::-1]:
            took = pass_of(way)
            if turn:
                found[way].append(took)
    return found


@contextmanager
def _in_two_processes(samples: Sequence[DrivingSample]) -> Iterator[Callable[[str], Seconds]]:
    """A pass over the samples by two processes, each over its share: until both are done, and their processor time."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for rank in range(PROCESSES):
        mine, theirs = context.Pipe()
        context.Process(target=_rank, args=(theirs, list(samples[rank::PROCESSES])), daemon=True).start()
        pipes.append(mine)

    def pass_of(way: str) -> Seconds:
        began = time.perf_counter()
        for pipe in pipes:
            pipe.send(way)
        processor = sum(pipe.recv() for pipe in pipes)
        return time.perf_counter() - began, processor

    yield pass_of
    for pipe in pipes:
        pipe.send(None)


def _rank(pipe: Connection, samples: list[DrivingSample]) -> None:
    torch.set_num_threads(1)
    ways = Ways()
    while (way := pipe.recv()) is not None:
        pipe.send(ways.seconds(way, samples)[1])


def _ratio(name: str, ours: Sequence[Seconds], other: Sequence[Seconds]) -> dict[str, Any]:
    clock, processor = ([b[by] / a[by] for a, b in zip(ours, other, strict=True)] for by in (0, 1))
    return {
        name: round(statistics.median(clock), 3),
        f"{name}_spread": [round(min(clock), 3), round(max(clock), 3)],
        f"{name}_processor_time": round(statistics.median(processor), 3),
    }


def _rate(frames: int, passes: Sequence[Seconds]) -> float:
    return round(frames / statistics.median(clock for clock, _ in passes), 1)


# --- scoring ----------------------------------------------------------------------------------------------------------


def bdd_oia(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from outputs to BDD-OIA's figures."""
    said, true = bdd_oia_outputs(options.texts)
    score(dict(list(said.items())[:1000]), dict(list(true.items())[:1000]))
    clock, processor = zip(*(_seconds(lambda: score(said, true, strict=True)) for _ in range(3)), strict=True)
    scale = TEXTS / options.texts
    return {
        "bdd_oia_100k_s": round(statistics.median(clock) * scale, 2),
        "bdd_oia_100k_processor_s": round(statistics.median(processor) * scale, 2),
        "bdd_oia_peak_memory_mib": _peak_mib(),
    }


def drivelm_language(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from texts to DriveLM's language figures, and the process's peak memory before and after."""
    answers, references = drivelm_pairs(options.texts)
    before = _peak_mib()
    clock, processor = _seconds(lambda: language_scores(answers, references))
    scale = TEXTS / options.texts
    return {
        "drivelm_language_100k_s": round(clock * scale, 1),
        "drivelm_language_100k_processor_s": round(processor * scale, 1),
        "drivelm_language_words_per_text": round(sum(len(text.split()) for text in references) / len(references), 1),
        "drivelm_language_peak_memory_mib": _peak_mib(),
        "drivelm_language_peak_memory_before_mib": before,
    }


def _seconds(work: Callable[[], object]) -> Seconds:
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "loader": loader,
    "bdd_oia": bdd_oia,
    "drivelm_language": drivelm_language,
}


if __name__ == "__main__":
    main()
