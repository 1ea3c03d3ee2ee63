"""What `prepare_data.py corrupt` costs over the library called directly: images per second of either side.

    python -m benchmarks.corruptions [--images 6] [--pairs 5] [--size 1600x900] [--names Fog,Snow]

Both sides read the same JPEG files (drawn scenes, enlarged), corrupt them by imagecorruptions and write JPEG, one after
the other in this process; the library's side is the plain loop anybody would write, with neither seeds nor manifest.
Every pair of passes swaps which side goes first. Prints, last, one JSON object: the median of the pairs' ratios over
all corruptions, by the clock and by processor time (which other work on the machine disturbs less), and for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecorruptions
import numpy as np
from PIL import Image

from benchmarks.frames import grainy_frame
from data.corruptions.copy import corrupt_tree
from data.corruptions.corruption import CORRUPTIONS, Corruption, corruption_named
from data.corruptions.job import JPEG_QUALITY
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH

SEED = 5
CLOCK, PROCESSOR = 0, 1

Seconds = tuple[float, float]
"""By the clock, and of processor time."""


@dataclass
class Passes:
    """What each pass of either side took."""

    ours: list[Seconds] = field(default_factory=list)
    library: list[Seconds] = field(default_factory=list)

    def ratios(self, by: int) -> list[float]:
        """Our throughput over the library's, of each pair."""
        return [library[by] / ours[by] for ours, library in zip(self.ours, self.library, strict=True)]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6, help="images in one pass of one corruption")
    parser.add_argument("--pairs", type=int, default=5, help="passes of either side")
    parser.add_argument("--size", default=f"{IMAGE_WIDTH}x{IMAGE_HEIGHT}", help="pixels of an image")
    parser.add_argument("--names", help="corruptions, with commas (default: all that the library does)")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    named = [corruption_named(name) for name in options.names.split(",")] if options.names else list(CORRUPTIONS)
    named = [corruption for corruption in named if corruption.library is not None]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        _draw(source, options.images, (width, height))
        figures = _race(source, Path(folder) / "out", named, options.pairs)
    print(json.dumps({"size": options.size, "images": options.images, "pairs": options.pairs} | figures))


def _draw(folder: Path, images: int, size: tuple[int, int]) -> None:
    for index in range(images):
        camera = CAMERAS[index % len(CAMERAS)]
        path = folder / camera / f"scene__{camera}__{500_000 * (1 + index // len(CAMERAS))}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        grainy_frame(index, camera, size).save(path, quality=JPEG_QUALITY)


def _race(source: Path, out: Path, named: list[Corruption], pairs: int) -> dict[str, Any]:
    images = len(list(source.rglob("*.jpg")))
    for corruption in named:  # the first calls load and compile
        _direct(source, out / "warm", corruption)
    passes = {corruption.name: Passes() for corruption in named}
    for pair in range(pairs):
        for corruption in named:
            for side in ("ours", "library") if pair % 2 else ("library", "ours"):
                folder = out / side / str(pair)
                began = time.perf_counter(), time.process_time()
                if side == "ours":
                    list(corrupt_tree(source, folder, [corruption], SEED))
                else:
                    _direct(source, folder, corruption)
                took = time.perf_counter() - began[0], time.process_time() - began[1]
                getattr(passes[corruption.name], side).append(took)
    together = Passes(
        [_sum(of) for of in zip(*(each.ours for each in passes.values()), strict=True)],
        [_sum(of) for of in zip(*(each.library for each in passes.values()), strict=True)],
    )
    ratios = together.ratios(CLOCK)
    return {
        "corruption_over_library": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "corruption_over_library_processor_time": round(statistics.median(together.ratios(PROCESSOR)), 3),
        "images_per_s_ours": round(images * len(named) / statistics.median(took[CLOCK] for took in together.ours), 2),
        "of_each_processor_time": {
            name: round(statistics.median(of.ratios(PROCESSOR)), 3) for name, of in passes.items()
        },
    }


def _sum(passes: Iterable[Seconds]) -> Seconds:
    clock, processor = zip(*passes, strict=True)
    return sum(clock), sum(processor)


def _direct(source: Path, folder: Path, corruption: Corruption) -> None:
    for path in sorted(source.rglob("*.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        corrupted = imagecorruptions.corrupt(pixels, corruption.severity, corruption.library)
        target = folder / corruption.name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(corrupted).save(target, quality=JPEG_QUALITY)


if __name__ == "__main__":
    main()
