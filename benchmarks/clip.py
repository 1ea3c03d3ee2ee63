"""CLIP's figures: what the actors cost against open_clip called directly, what the cache saves, what R1 can tell.

    python -m benchmarks.clip [--scenes 64] [--pairs 5] [--threads N]

Speed is measured with a random CLIP of width 256, 6 layers and 112x112 images on frames as this project draws them
(JPEG, 400x225), decoding and preprocessing included, in batches of 64. The direct side runs in this process; both
sides have the same number of threads, and take turns. Meaning is measured with the tiny CLIP, taught here: how often,
among 200 scenes it never saw, the caption most like a scene is its own. Prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from actors.scoring.clip_pool import ClipPool
from benchmarks.priority import step_down_to
from cluster.session import session
from data.rendered.captions import caption_of
from data.rendered.samples import rendered_samples
from data.rendered.scene import build_scene
from policies.tiny_clip import build_clip, held_out_recall, save_clip, train_tiny_clip
from recipe import load_recipe
from rewards.settings import ClipSettings

ROOT = Path(__file__).resolve().parents[1]
BATCH = 64
SEED = 5
GALLERY = 200
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 112, "patch_size": 16, "width": 256, "layers": 6, "head_width": 64},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 6},
    },
    "preprocess_cfg": {},
}

Work = list[tuple[list[str], list[str]]]
"""The frames of each scene, and the texts to compare with them."""


class Direct:
    """open_clip as its documentation calls it, in batches, in this process."""

    def __init__(self, folder: Path) -> None:
        """Load the model."""
        self._model, self._preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    @torch.inference_mode()
    def similarities(self, work: Work) -> list[list[float]]:
        """What the pool gives for the same work."""
        paths = [frame for frames, _ in work for frame in frames]
        frames = torch.cat([self._frames(paths[at : at + BATCH]) for at in range(0, len(paths), BATCH)])
        means = frames.unflatten(0, (len(work), -1)).mean(dim=1)
        texts = [text for _, texts in work for text in texts]
        if not texts:
            return [[] for _ in work]
        batches = [self._tokenizer(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        embedded = torch.cat([self._model.encode_text(tokens, normalize=True) for tokens in batches])
        return (embedded.unflatten(0, (len(work), -1)) @ means[:, :, None]).squeeze(-1).tolist()

    def _frames(self, paths: Sequence[str]) -> torch.Tensor:
        pixels = torch.stack([self._preprocess(Image.open(path)) for path in paths])
        return self._model.encode_image(pixels, normalize=True)


@dataclass
class Rates:
    """Images per second of each pass of one kind of work."""

    direct: list[float] = field(default_factory=list)
    pool: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)

    def figures(self, suffix: str) -> dict[str, Any]:
        """Medians of the pairs' ratios, and how far these spread."""
        over_raw = [pool / direct for pool, direct in zip(self.pool, self.direct, strict=True)]
        speedup = [cached / pool for cached, pool in zip(self.cached, self.pool, strict=True)]
        return {
            f"over_raw{suffix}": round(statistics.median(over_raw), 3),
            f"over_raw{suffix}_spread": [round(min(over_raw), 3), round(max(over_raw), 3)],
            f"cached_speedup{suffix}": round(statistics.median(speedup), 1),
            f"images_per_s_direct{suffix}": round(statistics.median(self.direct), 1),
            f"images_per_s_pool{suffix}": round(statistics.median(self.pool), 1),
        }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=BATCH, help="scenes in one pass, six frames each")
    parser.add_argument("--pairs", type=int, default=5, help="passes of either side")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="compute threads of either side")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = {"threads": options.threads, "scenes": options.scenes, "pairs": options.pairs}
        figures |= _speed(Path(folder), options.scenes, options.pairs, options.threads)
        figures |= _meaning(Path(folder))
    print(json.dumps(figures))


def _speed(folder: Path, scenes: int, pairs: int, threads: int) -> dict[str, Any]:
    model = folder / "clip"
    torch.manual_seed(SEED)
    save_clip(model, build_clip(CONFIG), CONFIG)
    settings = ClipSettings(model=str(model), batch_size=BATCH, threads=threads)
    frames = {s.scene_id: list(s.images.values()) for s in rendered_samples(folder / "scenes", scenes, SEED)}
    with session(load_recipe([str(ROOT / "recipes/tiny.yaml")])):
        return asyncio.run(_race(settings, folder, list(frames.values()), pairs))


async def _race(settings: ClipSettings, folder: Path, frames: list[list[str]], pairs: int) -> dict[str, Any]:
    pool = await ClipPool.start(settings, folder, lambda role, index: {"num_cpus": 0})
    priorities = await step_down_to(pool.supervisor.members[0].actor)
    direct, images, scored = Direct(Path(settings.model)), Rates(), Rates()
    await _pair(direct, pool, frames, 0, Rates(), with_text=True)  # warm both sides up
    gaps = []
    for pair in range(1, pairs + 1):
        gaps.append(await _pair(direct, pool, frames, pair, images, with_text=False))
        gaps.append(await _pair(direct, pool, frames, pair, scored, with_text=True))
    await pool.stop()
    figures = images.figures("") | scored.figures("_with_captions")
    return figures | {"largest_difference": max(gaps), "frame": "JPEG 400x225", "niceness": priorities}


async def _pair(
    direct: Direct, pool: ClipPool, frames: list[list[str]], pair: int, rates: Rates, *, with_text: bool
) -> float:
    """One pass of either side over frames that no cache knows, and one over frames that the pool's cache does.

    Returns the largest difference between the similarities of both sides.
    """
    work, again = _work(frames, 2 * pair, with_text), _work(frames, 2 * pair + 1, with_text)
    for path in (path for some in frames for path in some):
        os.utime(path)  # a file that changed is embedded anew
    images = sum(len(some) for some in frames)

    def run_direct() -> list[list[float]]:
        began = time.perf_counter()
        found = direct.similarities(work)
        rates.direct.append(images / (time.perf_counter() - began))
        return found

    async def run_pool(work: Work, into: list[float]) -> list[list[float]]:
        began = time.perf_counter()
        found = await asyncio.gather(*(pool.similarities(some, texts) for some, texts in work))
        into.append(images / (time.perf_counter() - began))
        return found

    if pair % 2:
        expected, found = run_direct(), await run_pool(work, rates.pool)
    else:
        found = await run_pool(work, rates.pool)
        expected = run_direct()
    await run_pool(again, rates.cached)
    pairs = zip(expected, found, strict=True)
    return max((abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)), default=0.0)


def _work(frames: list[list[str]], seed: int, with_text: bool) -> Work:
    scenes = [build_scene(index, SEED) for index in range(len(frames))]
    return [(some, [caption_of(s, seed)] if with_text else []) for some, s in zip(frames, scenes, strict=True)]


def _meaning(folder: Path) -> dict[str, Any]:
    began = time.perf_counter()
    tiny = train_tiny_clip(folder / "tiny")
    taught_s = time.perf_counter() - began
    recall = held_out_recall(str(tiny), GALLERY)
    return {
        "taught_s": round(taught_s, 1),
        "recall_at_1": recall.caption_of_scene,
        "recall_at_1_scene_of_caption": recall.scene_of_caption,
        "gallery": recall.scenes,
        "chance": recall.chance,
    }


if __name__ == "__main__":
    main()
