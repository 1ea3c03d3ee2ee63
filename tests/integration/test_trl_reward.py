"""TRL's own trainer learns from the service's rewards: `docs/examples/trl_reward.py` is one of its `reward_funcs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from docs.examples.trl_reward import ServiceReward

pytestmark = pytest.mark.slow
QUESTION = "May the ego vehicle go? Answer yes or no."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        yield service


def test_trls_trainer_takes_a_step_on_the_services_rewards(served: Running, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(served.service.base)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **shape)  # fmt: skip
    reward, asked = ServiceReward(served.url, served.key()), list[int]()

    def counted(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        asked.append(len(completions))
        known = {name: columns[name] for name in ("answer", "kind")}
        return reward(prompts, completions, **known)

    rows = [{"prompt": QUESTION, "answer": "Yes", "kind": "yes_no"}] * 4
    settings = GRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=4, max_steps=1,
                          max_completion_length=4, report_to=[], use_cpu=True, logging_steps=1,
                          save_strategy="no")  # fmt: skip
    trainer = GRPOTrainer(LlamaForCausalLM(config), reward_funcs=counted, args=settings,
                          train_dataset=Dataset.from_list(rows), processing_class=tokenizer)  # fmt: skip
    trainer.train()
    assert asked == [4]
    assert any("reward" in entry for entry in trainer.state.log_history)
