"""From a driving sample to what the model reads: chat text, six images, prompt ids and image tensors."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor

from data.images import open_image
from data.sample import CAMERAS, DrivingSample
from policies.settings import PolicySettings

IMAGE_CACHE_BYTES = 512 * 2**20
"""Frames, and image tensors, kept per process; bounded, so that host memory does not grow with the number of frames."""


def image_paths(sample: DrivingSample) -> tuple[str, ...]:
    """The sample's image paths in the order of every prompt (`CAMERAS`)."""
    return tuple(sample.images[camera] for camera in CAMERAS if camera in sample.images)


def chat_messages(question: str, images: int, system_prompt: str | None) -> list[dict[str, Any]]:
    """One user turn: the images first, then the question; a system turn before it when one is set."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
    system = [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}] if system_prompt else []
    return [*system, {"role": "user", "content": content}]


def load_frame(path: str, size: tuple[int, int] | None) -> Image.Image:
    """Open a frame as RGB, resized to (width, height) when a size is set.

    Raises:
        ImageError: the file is missing, truncated or no image; the message names it.
    """
    image = open_image(path)
    return image if size is None or image.size == tuple(size) else image.resize(size, Image.Resampling.BILINEAR)


class PromptEncoder:
    """Turns samples into model inputs with one processor; engine, learner and server all build prompts here."""

    def __init__(self, processor: Any, settings: PolicySettings) -> None:
        """Use a Hugging Face processor with a chat template, as loaded by `load_processor`."""
        self.processor = processor
        self.settings = settings
        self._tensors: LRUCache[tuple[str, ...], dict[str, Tensor]] = LRUCache(
            IMAGE_CACHE_BYTES, getsizeof=tensor_bytes
        )
        self._frames: LRUCache[str, Image.Image] = LRUCache(IMAGE_CACHE_BYTES, getsizeof=_pixels)

    def text(self, sample: DrivingSample) -> str:
        """The chat text up to where the answer begins, one placeholder per image."""
        messages = chat_messages(sample.question, len(image_paths(sample)), self.settings.system_prompt)
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def frames(self, paths: Sequence[str]) -> list[Image.Image]:
        """The frames at the size the recipe asks for, each opened once (the G requests of a group ask for the same)."""
        for path in paths:
            if path not in self._frames:
                self._frames[path] = load_frame(path, self.settings.image_size)
        return [self._frames[path] for path in paths]

    def prompt_ids(self, sample: DrivingSample) -> tuple[int, ...]:
        """The prompt's token ids with every image placeholder expanded, as the engine sees them."""
        inputs = self.processor(images=self.frames(image_paths(sample)), text=self.text(sample), return_tensors="pt")
        return tuple(inputs["input_ids"][0].tolist())

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """The ids of a demonstrated answer, closed by the end-of-turn token."""
        tokenizer = self.processor.tokenizer
        return (*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)

    def tokens_until(self, token_ids: Sequence[int], ends: Sequence[int]) -> list[int]:
        """For each index in characters of a response: how many of its tokens it takes to write that far (1 or more)."""

        def written(count: int) -> int:
            return len(self.processor.tokenizer.decode(token_ids[:count], skip_special_tokens=True))

        counts = range(1, len(token_ids) + 1)
        return [min(len(token_ids), 1 + bisect.bisect_left(counts, end, key=written)) for end in ends]

    def image_tensors(self, paths: tuple[str, ...]) -> dict[str, Tensor]:
        """The processor's image tensors for one prompt, computed once per frame set and kept within a byte bound."""
        if (cached := self._tensors.get(paths)) is not None:
            return cached
        inputs = self.processor.image_processor(images=self.frames(paths), return_tensors="pt")
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        if tensor_bytes(tensors) <= self._tensors.maxsize:
            self._tensors[paths] = tensors
        return tensors


def tensor_bytes(tensors: dict[str, Tensor]) -> int:
    """Bytes that some tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _pixels(image: Image.Image) -> int:
    return image.width * image.height * 3
