"""GRPO over six-camera prompts, over HTTP: `python -m docs.examples.tinker_grpo --url URL [--start tinker://...]`.

The loop is the client's: sample a group for each question, reward it, compare within the group, learn, sample from the
new weights. The key is taken from TINKER_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tinker
from tinker import types

from docs.examples.tinker_driving import Asked, base_of, driving_questions, tokenizer_of


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    steps: int = 30
    prompts: int = 16
    group: int = 8
    scenes: int = 100
    rank: int = 32
    lr: float = 1e-3
    max_tokens: int = 24
    temperature: float = 1.0
    seed: int = 0


def reward(text: str, asked: Asked) -> float:
    """1 for the right answer, else 0."""
    return float(text.strip() == asked.answer.strip())


def rollout_datum(asked: Asked, sequence: Any, advantage: float) -> types.Datum:
    """One response with its advantage on every token; position i predicts target i."""
    before, tokens = asked.prompt.length - 1, list(sequence.tokens)
    chunks = list(asked.prompt.chunks)
    if len(tokens) > 1:
        chunks.append(types.EncodedTextChunk(tokens=tokens[:-1]))
    inputs: dict[str, Any] = {
        "target_tokens": np.array([0] * before + tokens, np.int64),
        "logprobs": np.array([0.0] * before + list(sequence.logprobs), np.float32),
        "advantages": np.array([0.0] * before + [advantage] * len(tokens), np.float32),
    }
    return types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs=inputs)


def grpo(service: tinker.ServiceClient, base: str, given: Options, start: str | None = None) -> list[dict[str, float]]:
    """Train; the figures of each step."""
    if start is None:
        policy = service.create_lora_training_client(base_model=base, rank=given.rank, seed=given.seed).result()
    else:
        policy = service.create_training_client_from_state(start).result()
    tokenizer, draw = tokenizer_of(base), random.Random(given.seed)
    questions = list(driving_questions(tokenizer, 0, given.scenes))
    sampling = types.SamplingParams(max_tokens=given.max_tokens, temperature=given.temperature)
    adam = types.AdamParams(learning_rate=given.lr, beta2=0.999, eps=1e-8, grad_clip_norm=1.0)
    history = []
    for step in range(given.steps):
        began = time.monotonic()
        sampler = policy.save_weights_and_get_sampling_client().result()
        chosen = draw.sample(questions, given.prompts)
        answers = [sampler.sample(asked.prompt, given.group, sampling) for asked in chosen]
        data, rewards = list[types.Datum](), list[float]()
        for asked, answer in zip(chosen, answers, strict=True):
            sequences = answer.result().sequences
            values = [reward(tokenizer.decode(one.tokens, skip_special_tokens=True), asked) for one in sequences]
            rewards += values
            spread = statistics.pstdev(values)
            if spread > 0:  # else there is nothing to compare
                mean = statistics.fmean(values)
                data += [rollout_datum(asked, one, (value - mean) / spread)
                         for one, value in zip(sequences, values, strict=True)]  # fmt: skip
        figures = {"reward": statistics.fmean(rewards), "learnt_from": float(len(data))}
        if data:
            # A loss is a sum over tokens: divide the advantages to make it a mean.
            tokens = sum(int(np.count_nonzero(one.loss_fn_inputs["advantages"].to_numpy())) for one in data)
            looked = policy.forward_backward(
                [scaled(one, 1.0 / tokens) for one in data], "ppo", {"temperature": given.temperature}
            )
            policy.optim_step(adam).result()
            figures["sampler_gap"] = looked.result().metrics["sampler_gap:max"]
        figures["seconds"] = time.monotonic() - began
        history.append(figures)
        print(f"step {step + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
    return history


def scaled(datum: types.Datum, factor: float) -> types.Datum:
    """A datum with its advantages multiplied."""
    inputs = dict(datum.loss_fn_inputs)
    inputs["advantages"] = types.TensorData.from_numpy(inputs["advantages"].to_numpy() * np.float32(factor))
    return types.Datum(model_input=datum.model_input, loss_fn_inputs=inputs)


def main() -> None:
    """Train, and print how the reward went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("TINKER_BASE_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--start", help="the checkpoint to begin with")
    for name, value in vars(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    url, start = given.pop("url"), given.pop("start")
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    with tinker.ServiceClient(base_url=url) as service:
        history = grpo(service, base_of(url), Options(**given), start)
    rewards = [figures["reward"] for figures in history]
    edge = max(1, len(rewards) // 5)
    print(json.dumps({
        "first_reward": statistics.fmean(rewards[:edge]),
        "last_reward": statistics.fmean(rewards[-edge:]),
        "largest_sampler_gap": max((f["sampler_gap"] for f in history if "sampler_gap" in f), default=None),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
