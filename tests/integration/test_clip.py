"""CLIP in real Ray actors: the values are open_clip's own, a frame is embedded once, and life goes on after a kill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import pytest_asyncio
import ray
import torch
from PIL import Image

from actors.scoring.clip_pool import ClipPool
from actors.scoring.clip_scorer import ClipScorer, ScoredBatch, SimilarityRequest
from data.rendered.captions import caption_of
from data.rendered.samples import rendered_samples
from data.rendered.scene import build_scene
from data.sample import DrivingSample
from policies.tiny_clip import build_clip, save_clip
from rewards.clip import AlignmentScorer, ClipFailed
from rewards.settings import ClipSettings
from tests.integration.conftest import any_node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.asyncio(loop_scope="module"),
]

SCENES = 16
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {},
}
HELD, HANG = "A caption that is held.", "A caption without end."
RELEASED = "released"
Pools = tuple[ClipPool, ClipPool]


class FaultyScorer(ClipScorer):
    """Holds one caption until a file says otherwise, so that it can be killed meanwhile, and another for ever."""

    def __init__(self, source: str, settings: ClipSettings) -> None:
        super().__init__(source, settings)
        self.released = Path(source) / RELEASED

    def score(self, requests: Sequence[SimilarityRequest]) -> ScoredBatch:
        texts = {text for request in requests for text in request.texts}
        while HANG in texts or (HELD in texts and not self.released.exists()):
            time.sleep(0.01)
        return super().score(requests)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    save_clip(folder, build_clip(CONFIG), CONFIG)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[DrivingSample]:
    """One sample of each scene."""
    found = rendered_samples(tmp_path_factory.mktemp("scenes"), SCENES, seed=11)
    return list({sample.scene_id: sample for sample in found}.values())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pools(model: Path, ray_session: None) -> AsyncIterator[Pools]:
    """Two actors; and one that is given up when it is lost."""
    several = ClipSettings(model=str(model), threads=1, batch_size=16, max_wait_ms=20, actors=2, timeout_s=600.0)
    frail = several.model_copy(update={"actors": 1, "restarts": 0, "timeout_s": 2.0})
    started = await asyncio.gather(
        ClipPool.start(several, model, any_node, FaultyScorer), ClipPool.start(frail, model, any_node, FaultyScorer)
    )
    yield started[0], started[1]
    await asyncio.gather(*(pool.stop() for pool in started))


def frames_of(sample: DrivingSample) -> list[str]:
    return list(sample.images.values())


def caption(number: int) -> str:
    return caption_of(build_scene(number, 11))


def directly(model: Path, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
    """What open_clip says by itself: one frame, one text after another."""
    clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{model}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model}")
    with torch.inference_mode():
        embedded = [clip.encode_image(preprocess(Image.open(frame))[None], normalize=True) for frame in frames]
        mean = torch.cat(embedded).mean(dim=0)
        return [float(clip.encode_text(tokenizer([text]), normalize=True)[0] @ mean) for text in texts]


async def test_the_values_are_those_of_open_clip(pools: Pools, model: Path, samples: list[DrivingSample]) -> None:
    texts = ["", "A red light ahead.", caption(0), caption(0) * 3]
    found = await asyncio.gather(*(pools[0].similarities(frames_of(sample), texts) for sample in samples[:4]))
    for sample, cosines in zip(samples[:4], found, strict=True):
        assert cosines == pytest.approx(directly(model, frames_of(sample), texts), abs=1e-5)
    assert len({round(cosine, 6) for cosine in found[0]}) == 4
    assert 1 <= pools[0].counts.full_texts <= 2  # the long one, in a call to either actor


async def test_a_scene_is_embedded_once_and_its_rollouts_travel_together(
    pools: Pools, samples: list[DrivingSample]
) -> None:
    pool, before = pools[0], pools[0].counts.embedded
    calls = pool.counts.calls
    scenes = samples[4:8]
    rollouts = [(sample, f"{caption(n)} {n}") for sample in scenes for n in range(8)]
    await asyncio.gather(*(pool.similarities(frames_of(sample), [text]) for sample, text in rollouts))
    assert pool.counts.embedded - before == 6 * len(scenes)
    assert pool.counts.calls - calls <= 6  # 32 rollouts, 16 in a call, two actors
    await pool.similarities(frames_of(scenes[0]), ["Once more."])
    assert pool.counts.embedded - before == 6 * len(scenes)


async def test_frames_without_texts_are_embedded_and_texts_without_frames_refused(
    pools: Pools, samples: list[DrivingSample]
) -> None:
    pool, before = pools[0], pools[0].counts.embedded
    assert await pool.similarities(frames_of(samples[8]), []) == []
    assert pool.counts.embedded - before == 6
    with pytest.raises(ClipFailed, match="unreadable_frame: there are no frames"):
        await pool.similarities([], ["A red light."])


async def test_a_frame_that_is_written_anew_is_embedded_anew(
    pools: Pools, samples: list[DrivingSample], tmp_path: Path
) -> None:
    path, pool = tmp_path / "frame.png", pools[0]
    Image.new("RGB", (40, 30), "red").save(path)
    (red,) = await pool.similarities([str(path)], ["A red light."])
    Image.new("RGB", (40, 30), "green").resize((50, 50)).save(path)
    (green,) = await pool.similarities([str(path)], ["A red light."])
    assert abs(red - green) > 1e-4


async def test_an_unreadable_frame_fails_its_own_rollout_and_is_named(
    pools: Pools, samples: list[DrivingSample], tmp_path: Path
) -> None:
    pool, damaged = pools[0], tmp_path / "damaged.jpg"
    failed = pool.counts.failed["unreadable_frame"]
    damaged.write_bytes(Path(frames_of(samples[0])[0]).read_bytes()[:900])
    frames = frames_of(samples[0])
    gone, bad, sound = await asyncio.gather(
        pool.similarities([*frames[:5], str(tmp_path / "gone.jpg")], ["A red light."]),
        pool.similarities([*frames[:5], str(damaged)], ["A red light."]),
        pool.similarities(frames, ["A red light."]),
        return_exceptions=True,
    )
    assert isinstance(gone, ClipFailed)
    assert isinstance(bad, ClipFailed)
    assert (gone.reason, bad.reason) == ("unreadable_frame", "unreadable_frame")
    assert "gone.jpg" in str(gone)
    assert "damaged.jpg" in str(bad)
    assert isinstance(sound, list)
    assert pool.counts.failed == {"unreadable_frame": failed + 2}


async def test_what_a_killed_actor_had_to_do_is_done_elsewhere(
    pools: Pools, model: Path, samples: list[DrivingSample]
) -> None:
    pool = pools[0]
    asked, scored = pool.counts.asked, pool.counts.scored
    tasks = [asyncio.create_task(pool.similarities(frames_of(sample), [HELD])) for sample in samples]
    calls = pool.counts.calls
    while pool.counts.calls < calls + 2:
        await asyncio.sleep(0.01)
    ray.kill(pool.supervisor.members[0].actor)
    (model / RELEASED).touch()
    found = await asyncio.gather(*tasks)
    assert [cosine for (cosine,) in found[:2]] == pytest.approx(
        [directly(model, frames_of(sample), [HELD])[0] for sample in samples[:2]], abs=1e-5
    )
    counts = pool.counts
    assert (counts.asked - asked, counts.scored - scored, counts.lost) == (SCENES, SCENES, 1)
    assert counts.retried > 0
    assert set(counts.failed) <= {"unreadable_frame"}


async def test_a_hanging_actor_is_given_up_and_the_rollout_is_failed_by_name(
    pools: Pools, samples: list[DrivingSample]
) -> None:
    pool = pools[1]
    with pytest.raises(ClipFailed) as hung:
        await pool.similarities(frames_of(samples[0]), [HANG])
    with pytest.raises(ClipFailed) as lost:
        await AlignmentScorer(increments="sentence").score(pool, samples[1], caption(1))
    assert (hung.value.reason, lost.value.reason) == ("timeout", "actor_lost")
    assert pool.counts.failed == {"timeout": 1, "actor_lost": 1}
    assert pool.counts.lost == 1
