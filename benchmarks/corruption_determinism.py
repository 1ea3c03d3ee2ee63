"""Whether the same seed gives the same bytes: every corruption again and again, in one process and in many.

    python -m benchmarks.corruption_determinism [--times 20] [--size 160x113] [--frames 3]

A camera tree of drawn scenes is corrupted `--times` times in this process, each time in another order and with other
work in between, and once in each of `--times` fresh processes, two at a time, whose allocator fills memory with another
byte each (`MALLOC_PERTURB_` of glibc). What is compared are hashes of all files written; of manifests, what they count.
Prints, last, one JSON object: how many of the copies are equal, at the least and for each corruption, and a digest of
them all, which is the same on any machine that gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.corruptions.copy import MANIFEST, corrupt_tree
from data.corruptions.corruption import CORRUPTION_NAMES, corruption_named
from data.rendered.drawing import render_scene
from data.rendered.scene import build_scene

SEED = 5
QUALITY = 90
FRAME_US = 500_000
AT_ONCE = 2
TIMEOUT_S = 600
PROCESS = "--process"

Hashes = dict[str, str]
"""Of what each corruption wrote, by its name."""


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="copies in one process, and processes")
    parser.add_argument("--size", default="160x113", help="pixels of an image")
    parser.add_argument("--frames", type=int, default=3, help="frames of a clip")
    parser.add_argument(PROCESS, type=Path, metavar="TREE", help="only corrupt TREE once and print the hashes")
    options = parser.parse_args()
    if options.process:
        print(json.dumps(hashes_of(options.process, list(CORRUPTION_NAMES))))
        return
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, other = Path(folder) / "source", Path(folder) / "other"
        draw(source, options.frames, (width, height))
        draw(other, 2, (width + 70, height + 54), first_scene=50)
        alone = _in_one_process(source, other, options.times)
        apart = _in_processes(source, options.times)
    figures = {"one_process": _equal(alone), "processes": _equal(apart), "together": _equal(alone + apart)}
    least = {f"least_equal_{name}": min(of.values()) for name, of in figures.items()}
    digest = hashlib.sha256(json.dumps(apart[0], sort_keys=True).encode()).hexdigest()[:16]
    print(json.dumps({"size": options.size, "times": options.times} | least | {"digest": digest} | figures))


def draw(folder: Path, frames: int, size: tuple[int, int], first_scene: int = 0) -> None:
    """Write frames of all six cameras, of (width, height) pixels, that differ much from one to the next."""
    for frame in range(frames):
        for camera, image in render_scene(build_scene(first_scene + frame, SEED)).items():
            path = folder / camera / f"scene__{camera}__{FRAME_US * (1 + frame)}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize(size).save(path, quality=QUALITY)


def hashes_of(source: Path, names: list[str], seed: int = SEED) -> Hashes:
    """Corrupt a tree, in the order of the names, and hash what was written; the copies are deleted."""
    with tempfile.TemporaryDirectory() as target:
        copies = corrupt_tree(source, Path(target), [corruption_named(name) for name in names], seed)
        return {copy.folder.name: _hash(copy.folder) for copy in copies}


def _hash(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        content = path.read_bytes()
        if path.name == MANIFEST:  # all but the place and the versions, which are another machine's own
            manifest = json.loads(content)
            content = json.dumps([manifest["counts"], manifest["faults"]], sort_keys=True).encode()
        found.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return found.hexdigest()


def _in_one_process(source: Path, other: Path, times: int) -> list[Hashes]:
    order = random.Random(SEED)
    every = list(CORRUPTION_NAMES)
    found: list[Hashes] = []
    for _ in range(times):
        names = order.sample(every, len(every))
        found.append({})
        for name in names:
            found[-1] |= hashes_of(source, [name])
            if order.random() < 0.5:
                hashes_of(other, [order.choice(every)], seed=order.randrange(100))
    return found


def _in_processes(source: Path, times: int) -> list[Hashes]:
    def run(index: int) -> Hashes:
        environment = os.environ | {"MALLOC_PERTURB_": str(1 + index * 37 % 255)}
        command = [sys.executable, "-m", "benchmarks.corruption_determinism", PROCESS, str(source)]
        found = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S
        ).stdout
        hashes: Hashes = json.loads(found.splitlines()[-1])
        return hashes

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, range(times)))


def _equal(copies: list[Hashes]) -> dict[str, int]:
    return {name: Counter(copy[name] for copy in copies).most_common(1)[0][1] for name in CORRUPTION_NAMES}


if __name__ == "__main__":
    main()
