"""The tiny judge: a random Llama chat model of about two million parameters, built from nothing.

It judges without wisdom, but through every part that a large judge goes through: chat template, prefix cache,
structured output. Needs no download.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from policies.checkpoint import save_checkpoint
from policies.tokenizer import CHAT_TEMPLATE, END_OF_TURN, SPECIAL_TOKENS

VOCABULARY = 2048
SHAPE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 3}
LONGEST = 8192


def build_tiny_judge(folder: Path, corpus: Iterable[str], seed: int = 0) -> Path:
    """Write a random chat model in Hugging Face layout into `folder` and return the folder.

    `corpus` is what its tokenizer is trained on: the rubrics, so that they cost few tokens. Deterministic in
    (corpus, seed).
    """
    tokenizer = _train_tokenizer(corpus)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        architectures=[LlamaForCausalLM.__name__],
        dtype="float32",
        vocab_size=len(tokenizer),
        num_key_value_heads=SHAPE["num_attention_heads"],
        max_position_embeddings=LONGEST,
        **SHAPE,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    save_checkpoint(folder, model, tokenizer, model.state_dict())
    return folder


def _train_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """Plain byte-level BPE: any text can be read, and any JSON written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        bos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        eos_token=END_OF_TURN,
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )
