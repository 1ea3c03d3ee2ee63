"""What every rollout engine promises, built-in or yours: `RolloutEngine`, sentence by sentence.

Each engine is started once, in a process of its own (engines leave threads behind), and tells what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from actors.rollout.engine import RolloutEngine, engine_of
from actors.settings import RolloutSettings, RunSettings
from actors.sync.checksums import checksum, derived
from actors.sync.transport import Bucket, Meeting, join
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import EngineError
from policies.checkpoint import disk_name
from policies.model import Policy, load_policy, load_processor
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from recipe import Recipe
from serve.operations.listening import free_port
from tests.learner_gap import largest_gap

BACKENDS = ("vllm", "transformers", "docs.examples.engine:OwnEngine")
POLICY = PolicySettings(image_size=(32, 32))
SETTINGS = RolloutSettings(temperature=1.3, max_model_len=512, threads=1)
RECIPE = Recipe(run=RunSettings(name="contract"), policy=POLICY, rollout=SETTINGS)
VERSION, LONG = 7, 48
"""Of the weights that are sent, and tokens of a response that is interrupted."""
SETTLE_S = 0.4
"""What had ended before a pause may still be on its way for so long."""


def with_backend(backend: str) -> Recipe:
    return RECIPE.model_copy(update={"rollout": SETTINGS.model_copy(update={"backend": backend})})


class Observed:
    """One engine, and what it did."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.folder = folder
        self.samples = rendered_samples(folder / "scenes", 1, seed=0)[:5]
        recipe = with_backend(backend)
        chosen = engine_of(recipe)
        self.takes_seeds = "seeds" in chosen.abilities
        self.engine: RolloutEngine = chosen.engine_class("engine 0", str(folder), recipe, chosen.options, seed=3)
        self.policy: Policy = load_policy(folder, POLICY, SETTINGS.temperature).eval()
        self.facts: dict[str, Any] = {}
        self._asked = 0

    async def all(self) -> dict[str, Any]:
        states = self.facts["states"] = [await self.state()]
        await self.engine.start()
        states.append(await self.state())
        await self.sampled()
        greedy = self.facts["greedy"] = await self.greedy()
        await self.refused()
        undisturbed = [
            one.token_ids for one in await self.ask(self.requests(self.samples, SamplingSettings(0.0, LONG)))
        ]
        for name, hold, go_on in (
            ("pause", self.engine.pause, self.engine.resume),
            ("sleep", self.engine.sleep, self.engine.wake),
        ):
            completed = await self.interrupted(name, hold, go_on)
            self.facts[name]["unchanged"] = completed == undisturbed
        await self.engine.reset_caches()
        self.facts["greedy_after_reset"] = (await self.greedy())["tokens"] == greedy["tokens"]
        await self.weights()
        await self.engine.stop()
        await self.engine.stop()
        states.append(await self.state())
        return self.facts

    async def state(self) -> str:
        return (await self.engine.health()).state

    def requests(self, samples: Sequence[DrivingSample], *settings: SamplingSettings) -> list[GenerationRequest]:
        self._asked += len(samples) * len(settings)
        return [
            GenerationRequest(f"{self._asked}-{i}-{j}", sample, one)
            for i, sample in enumerate(samples)
            for j, one in enumerate(settings)
        ]

    async def ask(self, requests: Sequence[GenerationRequest]) -> list[Rollout]:
        """In the order of the requests."""
        found = {one.request_id: one async for one in self.engine.generate(requests) if isinstance(one, Rollout)}
        return [found[request.request_id] for request in requests]

    async def greedy(self) -> dict[str, Any]:
        found = await self.ask(self.requests(self.samples, SamplingSettings(0.0, 12)))
        return {
            "tokens": [rollout.token_ids for rollout in found],
            "logprobs": [rollout.logprobs for rollout in found],
            "prompts": [rollout.prompt_ids for rollout in found],
            "texts": [rollout.text.rstrip("\ufffd") for rollout in found],  # a character that was cut in two
            "endings": [rollout.finish_reason for rollout in found],
        }

    def gap(self, found: list[Rollout]) -> float:
        """Between engine and learner at the sampling temperature."""
        samples = {sample.id: sample for sample in self.samples}
        asked = [samples[rollout.sample_id] for rollout in found]
        return largest_gap(self.policy, self.folder, POLICY, asked, found)

    async def sampled(self) -> None:
        sampling = SamplingSettings(SETTINGS.temperature, 16)
        requests = self.requests(self.samples, sampling, sampling)
        found = [one async for one in self.engine.generate(requests) if isinstance(one, Rollout)]
        self.facts |= {
            "asked": sorted(request.request_id for request in requests),
            "answered": sorted(rollout.request_id for rollout in found),
            "gap": self.gap(found),
            "forbidden": sum(set(rollout.token_ids) & set(self.policy.forbidden_ids) != set() for rollout in found),
            "different": len({rollout.token_ids for rollout in found}),
            "engines": sorted({rollout.engine for rollout in found}),
            "versions": sorted({rollout.weight_version for rollout in found}),
            "two_streams": await self.two_streams(),
        }
        if self.takes_seeds:
            seeded = [replace(sampling, seed=seed) for seed in (5, 6, 5)]
            self.facts["seeded"] = [one.token_ids for one in await self.ask(self.requests(self.samples[:1], *seeded))]

    async def two_streams(self) -> list[int]:
        """How many answers each of two calls at once got."""
        shares = [self.requests(self.samples[i::2], SamplingSettings(0.0, 4)) for i in range(2)]
        answers = await asyncio.gather(*map(self.ask, shares))
        return [len(found) - len(own) for own, found in zip(shares, answers, strict=True)]

    async def refused(self) -> None:
        sample = self.samples[0]
        damaged = replace(sample, id="no-image", images=dict.fromkeys(sample.images, "/nowhere.png"))
        endless = replace(sample, id="endless", question="How far is it? " * 400)
        asked = self.requests([damaged, *self.samples[1:], endless], SamplingSettings(1.0, 4))
        answers = [one async for one in self.engine.generate(asked)]
        self.facts["refusals"] = {one.sample_id: one.why for one in answers if isinstance(one, Refusal)}
        self.facts["answered_beside"] = sorted(one.sample_id for one in answers if isinstance(one, Rollout))
        self.facts["answerable"] = sorted(one.id for one in self.samples[1:])
        self.facts["lives_on"] = len(await self.ask(self.requests(self.samples, SamplingSettings(1.0, 4))))
        self.facts["running_after"] = (await self.engine.health()).running

    async def interrupted(
        self, name: str, hold: Callable[[], Awaitable[None]], go_on: Callable[[], Awaitable[None]]
    ) -> list[tuple[int, ...]]:
        """Hold the engine between a first, short answer and the others, and see that nothing goes on; the answers."""
        sampling = SamplingSettings(0.0, LONG)
        short, *_ = self.requests(self.samples[:1], SamplingSettings(0.0, 1))
        requests = [short, *self.requests(self.samples, sampling)]
        found: list[Rollout] = []
        first = asyncio.Event()

        async def drain(asked: list[GenerationRequest]) -> None:
            async for rollout in self.engine.generate(asked):
                assert isinstance(rollout, Rollout)
                found.append(rollout)
                first.set()

        drained = asyncio.create_task(drain(requests))
        await first.wait()
        while_generating = await self.engine.health()
        await hold()
        await hold()
        arriving = asyncio.create_task(drain(self.requests(self.samples[:1], sampling)))
        await asyncio.sleep(SETTLE_S)
        held = len(found)
        await asyncio.sleep(SETTLE_S)
        self.facts[name] = {
            "while_generating": asdict(while_generating),
            "state": await self.state(),
            "held": held,
            "held_later": len(found),
            "in_flight": (await self.engine.health()).running,
            "weights": await self.refusal(),
        }
        await go_on()
        await go_on()
        await asyncio.gather(drained, arriving)
        by_id = {rollout.request_id: rollout for rollout in found}
        self.facts[name] |= {
            "finished": len(found),
            "asked": len(requests) + 1,
            "state_after": await self.state(),
        }
        return [by_id[one.request_id].token_ids for one in requests[1:]]

    async def refusal(self) -> str:
        try:
            await self.engine.receive_weights(1, [], 5.0)
        except EngineError as error:
            return str(error)
        return ""

    async def weights(self) -> None:
        before = await self.ask(self.requests(self.samples, SamplingSettings(1.3, 16)))
        draws = torch.Generator().manual_seed(1)
        body = self.policy.body
        with torch.no_grad():
            for parameter in body.parameters():
                parameter += 0.03 * torch.randn(parameter.shape, generator=draws)
        names, tensors = zip(*body.named_parameters(), strict=True)
        disk = [disk_name(name, self.policy.model_type) for name in names]
        cut = len(disk) // 2
        parts = [slice(0, cut), slice(cut, None)]
        buckets = [Bucket(tuple(disk[p]), tuple(tuple(t.shape) for t in tensors[p]), "float32") for p in parts]
        meeting = Meeting("gloo", "127.0.0.1", free_port(), 2, 300.0)
        sender, _ = await asyncio.gather(
            asyncio.to_thread(join, meeting, 0), self.engine.join_weight_channel(meeting, 1)
        )
        self.facts["asleep"] = await self.refused_asleep()

        def send() -> None:
            for part in parts:
                sender.send(list(tensors[part]), "float32")

        _, receipts = await asyncio.gather(
            asyncio.to_thread(send),
            self.engine.receive_weights(VERSION, buckets, 300.0),
        )
        after = await self.ask(self.requests(self.samples, SamplingSettings(1.3, 16)))
        self.facts |= {
            "sent": [derived(map(checksum, tensors[p])) for p in parts],
            "receipts": [asdict(receipt) for receipt in receipts],
            "weights": len(disk),
            "versions_after": sorted({rollout.weight_version for rollout in after}),
            "health_version": (await self.engine.health()).version,
            "gap_of_old_answers": self.gap(before),
            "gap_after": self.gap(after),
        }

    async def refused_asleep(self) -> str:
        await self.engine.sleep()
        said = await self.refusal()
        await self.engine.wake()
        return said


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with what trips engines up: a template and a tokenizer that both write the token of beginning, and
    a generation_config.json with a repetition penalty."""
    folder = build_tiny_policy(tmp_path_factory.mktemp("policy"), 0, driving_text())
    processor = load_processor(folder, POLICY)
    begin = (processor.tokenizer.bos_token, processor.tokenizer.bos_token_id)
    processor.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin[0]} $A", None, [begin])
    processor.chat_template = processor.tokenizer.chat_template = "{{ bos_token }}" + processor.chat_template
    processor.save_pretrained(folder)
    configured = folder / "generation_config.json"
    configured.write_text(json.dumps(json.loads(configured.read_text()) | {"repetition_penalty": 1.7, "top_k": 20}))
    return folder


SEEN: dict[str, dict[str, Any]] = {}


def observed(backend: str, folder: Path) -> dict[str, Any]:
    """What a backend did; it is started the first time that it is asked for."""
    if backend not in SEEN:
        recipe = with_backend(backend)
        engine_class, options, _ = engine_of(recipe)
        environ = os.environ | engine_class.environment(recipe, options)
        command = [sys.executable, "-m", "tests.integration.test_engine_contract", backend, str(folder)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
        SEEN[backend] = json.loads(done.stdout.splitlines()[-1])
    return SEEN[backend]


@pytest.fixture(params=BACKENDS)
def facts(request: pytest.FixtureRequest, policy_folder: Path) -> dict[str, Any]:
    return observed(request.param, policy_folder)


def test_every_request_is_answered_once(facts: dict[str, Any]) -> None:
    assert facts["answered"] == facts["asked"]
    assert facts["different"] > len(facts["asked"]) / 2, "sampled at temperature 1.3"
    assert facts["engines"] == ["engine 0"]
    assert facts["two_streams"] == [0, 0]


def test_log_probabilities_are_the_learners(facts: dict[str, Any]) -> None:
    assert facts["gap"] < 1e-4
    assert facts["forbidden"] == 0, "ids that stand for images"


def test_a_seed_decides_a_response_where_seeds_are_taken(facts: dict[str, Any]) -> None:
    if "seeded" in facts:
        first, other, again = facts["seeded"]
        assert first == again != other


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_greedy_answers_are_those_of_vllm(policy_folder: Path, other: str) -> None:
    ours, theirs = observed("vllm", policy_folder)["greedy"], observed(other, policy_folder)["greedy"]
    begins = load_processor(policy_folder, POLICY).tokenizer.bos_token_id
    assert [prompt.count(begins) for prompt in ours["prompts"]] == [1] * 5
    for key in ("prompts", "tokens", "texts", "endings"):
        assert ours[key] == theirs[key], key
    np.testing.assert_allclose(np.concatenate(ours["logprobs"]), np.concatenate(theirs["logprobs"]), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_a_response_ends_at_every_id_that_the_checkpoint_says_and_generation_settings_there_count_for_nothing(
    backend: str, tmp_path: Path
) -> None:
    folder = build_tiny_policy(tmp_path / "policy", 0, driving_text())
    sample = rendered_samples(tmp_path / "scenes", 1, seed=0)[0]
    chosen = engine_of(recipe := with_backend(backend))

    async def greedy() -> Rollout:
        engine = chosen.engine_class("e", str(folder), recipe, chosen.options, seed=3)
        await engine.start()
        (found,) = [one async for one in engine.generate([GenerationRequest("r", sample, SamplingSettings(0.0, 12))])]
        return found

    plain = asyncio.run(greedy())
    assert plain.finish_reason == "length"
    end = next(place for place in range(3, 12) if plain.token_ids[place] not in plain.token_ids[:place])
    configured = folder / "generation_config.json"
    ends = [json.loads(configured.read_text())["eos_token_id"], plain.token_ids[end]]
    configured.write_text(json.dumps({"eos_token_id": ends, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}))
    ended = asyncio.run(greedy())
    assert ended.token_ids == plain.token_ids[: end + 1]
    assert ended.finish_reason == "stop"


def test_a_sample_that_cannot_be_asked_is_refused_and_the_others_are_answered(facts: dict[str, Any]) -> None:
    refusals = facts["refusals"]
    assert refusals["no-image"].startswith("engine 0 refuses sample no-image: image /nowhere.png")
    assert refusals["endless"].startswith("engine 0 refuses sample endless: see rollout.max_model_len")
    assert facts["answered_beside"] == facts["answerable"]
    assert facts["lives_on"] == 5
    assert facts["running_after"] == 0


@pytest.mark.parametrize(("call", "state"), [("pause", "paused"), ("sleep", "asleep")])
def test_what_is_in_flight_stops_and_is_completed_unchanged(facts: dict[str, Any], call: str, state: str) -> None:
    seen = facts[call]
    assert (seen["state"], seen["state_after"]) == (state, "generating")
    assert 1 <= seen["held"] == seen["held_later"] < seen["asked"]
    assert seen["in_flight"] == seen["asked"] - seen["held"]
    assert seen["finished"] == seen["asked"]
    assert seen["unchanged"]


def test_health_is_reported_while_it_generates(facts: dict[str, Any]) -> None:
    health = facts["pause"]["while_generating"]
    assert (health["state"], health["version"]) == ("generating", -1)
    assert health["running"] > 0


@pytest.mark.parametrize(("call", "said"), [("pause", "in flight"), ("sleep", "in flight")])
def test_weights_never_mix_in_one_response(facts: dict[str, Any], call: str, said: str) -> None:
    assert said in facts[call]["weights"]
    assert "engine 0 is asleep" in facts["asleep"]


def test_new_weights_change_the_answers_and_their_version(facts: dict[str, Any]) -> None:
    assert facts["gap_of_old_answers"] > 1e-2, "the new weights say something else"
    assert facts["gap_after"] < 1e-4
    assert facts["versions"] == [-1]
    assert facts["versions_after"] == [VERSION] == [facts["health_version"]]


def test_a_receipt_tells_what_arrived(facts: dict[str, Any]) -> None:
    (receipt,) = facts["receipts"]
    assert receipt["checksums"] == facts["sent"]
    assert receipt["differing"] == []
    assert receipt["compared"] > 0
    assert receipt["compared"] + receipt["incomparable"] == facts["weights"]


def test_answers_stay_the_same_when_caches_are_emptied(facts: dict[str, Any]) -> None:
    assert facts["greedy_after_reset"]


def test_an_engine_is_new_generates_and_is_stopped_even_twice(facts: dict[str, Any]) -> None:
    assert facts["states"] == ["new", "generating", "stopped"]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Observed(sys.argv[1], Path(sys.argv[2])).all())))
