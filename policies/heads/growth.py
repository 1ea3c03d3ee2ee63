"""Driving tokens are added to a model: its tokenizer gets new words, its matrices a row for each, and a folder is made.

The new rows begin as the mean of all others, or of the rows that write the token's number, with a little noise so that
no two are the same. Tied embeddings stay tied.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AddedToken, AutoModelForImageTextToText

from policies.checkpoint import save_checkpoint
from policies.errors import PolicyError
from policies.heads.files import Heads
from policies.model import load_processor
from policies.settings import HeadSettings, PolicySettings

NOISE = 0.1
"""Of the spread of the rows that are there."""


def grow(source: str, folder: Path, settings: PolicySettings, heads: Heads, start: HeadSettings) -> None:
    """Write a model with the tokens of `heads` into a folder, with the files that say what they mean.

    Args:
        source: checkpoint folder or hub name.
        folder: new.
        settings: of the policy: revision and number format.
        heads: the tokens.
        start: how their rows begin.

    Raises:
        PolicyError: the model cannot be loaded, or its tokenizer holds such a word for something else.
    """
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            source, revision=settings.revision, dtype=getattr(torch, settings.dtype), use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise PolicyError(f"policy.model={source}: no image-text-to-text model could be loaded ({error})") from error
    processor = load_processor(source, settings)
    tokenizer, words = processor.tokenizer, heads.words
    before = len(tokenizer)
    new = [word for word in words if word not in tokenizer.get_vocab()]
    if 0 < len(new) < len(words):
        raise PolicyError(
            f"policy.model={source} holds some driving tokens, but not {new[0]}: begin with another model"
        )
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in new])
    there = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > there:  # Qwen's matrices have more rows than its tokenizer has words
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = {word: tokenizer.convert_tokens_to_ids(word) for word in words}
    if new:
        _begin_rows(model, tokenizer, rows, before, start)
    tensors = _once(model)
    save_checkpoint(folder, model, processor, tensors)
    heads.write(folder)


@torch.no_grad()
def _begin_rows(model: Any, tokenizer: Any, rows: dict[str, int], before: int, start: HeadSettings) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [model.get_input_embeddings().weight]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not matrices[0]:
        matrices.append(output.weight)
    numerals = {word: _numerals(tokenizer, word) for word in rows} if start.start == "numerals" else {}
    for weight_V_D in matrices:
        known_V_D = weight_V_D[:before].float()
        mean_D, spread = known_V_D.mean(dim=0), float(known_V_D.std())
        noise_N_D = torch.randn(len(rows), weight_V_D.shape[1], generator=generator) * NOISE * spread
        for (word, row), noise_D in zip(rows.items(), noise_N_D, strict=True):
            ids = numerals.get(word)
            begin_D = known_V_D[ids].mean(dim=0) if ids else mean_D
            weight_V_D[row] = (begin_D + noise_D).to(weight_V_D.dtype)


def _numerals(tokenizer: Any, word: str) -> list[int]:
    """The ids that write a token's number."""
    (number,) = re.findall(r"\d+", word)
    return list(tokenizer(str(int(number)), add_special_tokens=False)["input_ids"])


def _once(model: Any) -> dict[str, Tensor]:
    """The weights by name, tied ones once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
