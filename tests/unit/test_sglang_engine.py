"""The SGLang engine's adapter, against a stand-in with SGLang's request and response shapes: SGLang wants a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from actors.rollout.engine import engine_of
from actors.rollout.sglang_engine import SglangEngine, SglangSettings
from actors.sync.transport import Bucket
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from extension import ExtensionError
from failures import EngineError
from policies.tiny import build_tiny_policy
from recipe import Recipe, load_recipe
from tests import sglang_standin
from tests.sglang_standin import Engine

TINY = str(Path(__file__).parents[2] / "recipes" / "tiny.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in sglang_standin.install().items():
        monkeypatch.setitem(sys.modules, name, module)


def recipe(*overrides: str) -> Recipe:
    return load_recipe([TINY, "rollout.backend=sglang", "rollout.gpus=1", *overrides])


async def started(folder: Path, **options: Any) -> SglangEngine:
    engine = SglangEngine("engine 0", str(folder), recipe(), SglangSettings(**options), seed=5)
    await engine.start()
    return engine


def request(tmp_path: Path, sampling: SamplingSettings, question: str = "May I go?") -> GenerationRequest:
    Image.new("RGB", (32, 18), "teal").save(tmp_path / "front.png")
    images = {"CAM_FRONT": str(tmp_path / "front.png")}
    return GenerationRequest("r1", DrivingSample("q", "s", "f", "lights", "yes_no", question, "Yes.", images), sampling)


async def answers(engine: SglangEngine, *requests: GenerationRequest) -> list[Rollout | Refusal]:
    return [one async for one in engine.generate(requests)]


async def test_a_request_and_its_response_have_sglangs_shapes(folder: Path, tmp_path: Path) -> None:
    engine = await started(folder)
    (rollout,) = await answers(engine, request(tmp_path, SamplingSettings(0.7, 16, top_p=0.9, top_k=20)))
    assert isinstance(rollout, Rollout)
    assert (rollout.token_ids, rollout.logprobs, rollout.text) == ((7, 2), (-0.25, -0.5), "Yes.")
    assert (rollout.finish_reason, rollout.weight_version, engine.running) == ("stop", -1, 0)
    (asked,) = Engine.made.asked
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["max_new_tokens"]) == (0.7, 0.9, 20, 16)
    assert len(asked["images"]) == 1
    assert "<image>" in asked["prompt"]
    assert all(value < -1e8 for value in asked["logit_bias"].values())
    assert Engine.made.arguments["random_seed"] == 5
    assert len(rollout.prompt_ids) > 4


async def test_greedy_and_cut_off_answers(folder: Path, tmp_path: Path) -> None:
    engine = await started(folder)
    (rollout,) = await answers(engine, request(tmp_path, SamplingSettings(0.0, 1)))
    assert isinstance(rollout, Rollout)
    assert rollout.finish_reason == "length"
    assert Engine.made.asked[0]["top_k"] == 1


async def test_what_cannot_be_asked_is_refused_and_the_others_go_on(folder: Path, tmp_path: Path) -> None:
    engine = await started(folder)
    sampling = SamplingSettings(1.0, 4)
    found = await answers(engine, request(tmp_path, sampling, "why " * 2000), request(tmp_path, sampling))
    assert sorted(type(one).__name__ for one in found) == ["Refusal", "Rollout"]


async def test_new_weights_are_handed_over_bucket_by_bucket_and_caches_forgotten_once(folder: Path) -> None:
    class Channel:
        def receive(self, bucket: Bucket) -> list[torch.Tensor]:
            return [torch.ones(shape) for shape in bucket.shapes]

    engine = await started(folder)
    engine._channel = Channel()  # type: ignore[assignment]
    buckets = [Bucket(("a", "b"), ((2,), (3,)), "float32"), Bucket(("c",), ((1,),), "float32")]
    (receipt,) = await engine.receive_weights(4, buckets, 10.0)
    assert Engine.made.tokenizer_manager.calls == [("update", ["a", "b"], False), ("update", ["c"], False), "flush"]
    assert (engine.version, receipt.compared) == (4, 0)
    Engine.made.tokenizer_manager.takes = False
    with pytest.raises(EngineError, match="did not take new weights: Failed to load weights"):
        await engine.receive_weights(5, buckets, 10.0)
    assert engine.version == 4
    engine.running = 1
    with pytest.raises(EngineError, match="in flight"):
        await engine.receive_weights(5, buckets, 10.0)


async def test_states_lead_where_the_protocol_says(folder: Path) -> None:
    engine = await started(folder, sleep_mode=True)
    for call, state in (("pause", "paused"), ("sleep", "asleep"), ("wake", "generating"), ("stop", "stopped")):
        await getattr(engine, call)()
        assert (await engine.health()).state == state
    assert Engine.made.tokenizer_manager.calls == [
        ("pause", "in_place"), "continue", "release", "resume memory", "shutdown",
    ]  # fmt: skip
    awake = await started(folder)
    with pytest.raises(EngineError, match=r"rollout\.options\.sleep_mode=true"):
        await awake.sleep()


async def test_without_a_gpu_or_sglang_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = SglangEngine("engine 0", str(folder), recipe("rollout.gpus=0"), SglangSettings(), seed=0)
    with pytest.raises(EngineError, match="SGLang runs on GPUs only"):
        await on_cpu.start()
    monkeypatch.setitem(sys.modules, "sglang", None)
    with pytest.raises(EngineError, match=r"install '\.\[sglang\]' in an environment of its own"):
        await started(folder)


def test_what_it_cannot_do_is_refused_when_the_recipe_is_read() -> None:
    assert engine_of(recipe()).engine_class is SglangEngine
    with pytest.raises(ExtensionError, match=r"rollout\.tensor_parallel=2 needs an engine"):
        engine_of(recipe("rollout.tensor_parallel=2"))
