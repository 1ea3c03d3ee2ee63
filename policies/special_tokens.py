"""The texts that a model's tokenizer takes for images, turns or ends: in a question or an answer they are no words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from data.sample import DrivingSample

_PLACEHOLDERS = ("image_token", "video_token", "fake_image_token", "global_image_token", "context_image_token")
"""Attributes of a processor that name what it expands in a text before any tokenizer sees it."""
_WORDS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})
"""What demonstrations and rewards are written with, whatever a tokenizer calls it."""
_TEXTS = ("question", "answer", "reasoning")
"""What of a sample may go into a model."""


class SpecialTokens:
    """Finds the special tokens of one model in texts, and takes them out."""

    def __init__(self, processor: Any) -> None:
        """Read them from a processor and its tokenizer; tokens such as Qwen's `<tool_call>` are words, and none."""
        tokenizer = processor.tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        named = {getattr(processor, name, None) for name in _PLACEHOLDERS}
        tokens = {str(token) for token in added | set(tokenizer.all_special_tokens) | named if token} - _WORDS
        longest_first = sorted(tokens, key=lambda token: (-len(token), token))
        one = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._one, self._run = re.compile(one), re.compile(rf"\s*(?:(?:{one})\s*)+")

    def first(self, texts: Iterable[str]) -> str | None:
        """The first special token in some texts."""
        return next((found[0] for text in texts if (found := self._one.search(text))), None)

    def first_of(self, sample: DrivingSample, answers: bool) -> tuple[str, str] | None:
        """The first special token of a sample, and the field that holds it; `answers`: in more than its question."""
        for name in _TEXTS if answers else _TEXTS[:1]:
            if (token := self.first([getattr(sample, name)])) is not None:
                return token, name
        return None

    def without(self, text: str) -> str:
        """The text with a line's end, or else a blank, in place of special tokens and the white space beside them.

        Also those that only form when others are taken out.
        """
        while self._one.search(text):
            text = self._run.sub(lambda run: "\n" if "\n" in run[0] else " ", text).strip()
        return text

    def stripped(self, sample: DrivingSample) -> DrivingSample:
        """The sample without special tokens in its texts and options."""
        changed: dict[str, Any] = {name: self.without(getattr(sample, name)) for name in _TEXTS}
        changed["choices"] = {letter: self.without(option) for letter, option in sample.choices.items()}
        return replace(sample, **changed)
