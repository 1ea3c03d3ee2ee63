"""Supervised fine-tuning over HTTP: `TINKER_API_KEY=tml-... python -m docs.examples.tinker_supervised --url URL`.

Teaches an adapter the answers to driving questions and prints each step's loss and the path of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from typing import Any

import numpy as np
import tinker
from tinker import types

from docs.examples.tinker_driving import Asked, base_of, driving_questions, tokenizer_of


def demonstration(asked: Asked, tokenizer: Any) -> types.Datum:
    """A question with its answer; the answer's tokens alone are learnt. Position i predicts target i."""
    answer = [*tokenizer.encode(asked.answer, add_special_tokens=False), tokenizer.eos_token_id]
    prompt = asked.prompt.length
    whole = types.ModelInput(chunks=[*asked.prompt.chunks, types.EncodedTextChunk(tokens=answer[:-1])])
    targets = np.array([0] * (prompt - 1) + answer, np.int64)
    weights = np.array([0.0] * (prompt - 1) + [1.0] * len(answer), np.float32)
    inputs: dict[str, Any] = {"target_tokens": targets, "weights": weights}
    return types.Datum(model_input=whole, loss_fn_inputs=inputs)


def train(
    service: tinker.ServiceClient, base: str, steps: int, batch: int, scenes: int, rank: int, lr: float, seed: int = 0
) -> tuple[list[float], str]:
    """The mean loss of a target at each step, and where the checkpoint is."""
    policy = service.create_lora_training_client(base_model=base, rank=rank, seed=seed).result()
    tokenizer = tokenizer_of(base)
    data = [demonstration(asked, tokenizer) for asked in driving_questions(tokenizer, 0, scenes)]
    draw, losses = random.Random(seed), list[float]()
    for step in range(steps):
        looked = policy.forward_backward(draw.sample(data, batch), "cross_entropy")
        # Every loss is a sum: AdamW does not mind, and the clip is of no use here.
        stepped = policy.optim_step(types.AdamParams(learning_rate=lr, beta2=0.999, eps=1e-8))
        metrics = looked.result().metrics
        stepped.result()
        losses.append(metrics["loss:sum"] / metrics["targets:sum"])
        print(f"step {step + 1}: loss {losses[-1]:.4f}", flush=True)
    return losses, policy.save_state("supervised").result().path


def main() -> None:
    """Train, and print where the checkpoint is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("TINKER_BASE_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    given = parser.parse_args()
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    with tinker.ServiceClient(base_url=given.url) as service:
        losses, path = train(service, base_of(given.url), given.steps, given.batch, given.scenes, given.rank, given.lr)
    print(json.dumps({"first_loss": losses[0], "last_loss": losses[-1], "checkpoint": path}))


if __name__ == "__main__":
    main()
