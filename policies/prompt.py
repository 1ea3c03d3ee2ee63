"""From a driving sample to what the model reads: chat text, images, prompt ids and image tensors."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor

from data.errors import DataError
from data.sample import DrivingSample
from policies.errors import PolicyError
from policies.settings import PolicySettings
from policies.special_tokens import SpecialTokens
from policies.views import BLANK, Picture, Views, draw, picture_id, pictures, views_of

IMAGE_CACHE_BYTES = 512 * 2**20
"""Frames, and image tensors, kept per process; bounded, so that host memory does not grow with the number of frames."""

TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask"})
"""What a processor makes of text; the rest is of images."""


def chat_messages(question: str, images: int, system_prompt: str | None) -> list[dict[str, Any]]:
    """One user turn: the images first, then the question; a system turn before it when one is set."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
    system = [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}] if system_prompt else []
    return [*system, {"role": "user", "content": content}]


def begins(processor: Any, text: str) -> dict[str, bool]:
    """Options for a processor or tokenizer that reads a chat text, so that the token of beginning comes once.

    As `apply_chat_template(tokenize=True)` of a processor: where the template writes the token of beginning, the
    tokenizer adds none.
    """
    token = processor.tokenizer.bos_token
    return {"add_special_tokens": False} if token and text.startswith(token) else {}


class PromptEncoder:
    """Turns samples into model inputs with one processor; engine, learner and server all build prompts here.

    What a sample's images become (`policies.views`) is decided here alone, so that callers pass a sample's views on as
    they are.
    """

    def __init__(self, processor: Any, settings: PolicySettings) -> None:
        """Use a Hugging Face processor with a chat template, as loaded by `load_processor`."""
        self.processor = processor
        self.settings = settings
        self._tensors: LRUCache[Views, dict[str, Tensor]] = LRUCache(IMAGE_CACHE_BYTES, getsizeof=tensor_bytes)
        self._drawn: LRUCache[Picture, Image.Image] = LRUCache(IMAGE_CACHE_BYTES, getsizeof=_pixels)
        self._a_row_each = True
        """Whether the processor gives every image one row of `pixel_values` and nothing else; until it is seen."""

    @cached_property
    def special(self) -> SpecialTokens:
        """What must not stand in a text.

        Raises:
            PolicyError: the recipe's system prompt holds such a token.
        """
        special = SpecialTokens(self.processor)
        if (token := special.first([self.settings.system_prompt or ""])) is not None:
            raise PolicyError(f"policy.system_prompt holds {token!r}, a special token of the model: take it out")
        return special

    def text(self, sample: DrivingSample) -> str:
        """The chat text up to where the answer begins, one placeholder per image.

        Raises:
            DataError: the question holds a special token of the model; before a run `policies.fitting` finds it.
        """
        if (token := self.special.first([sample.question])) is not None:
            raise DataError(f"sample {sample.id}: its question holds {token!r}, a special token of the model")
        images = len(pictures(views_of(sample), self.settings))
        messages = chat_messages(sample.question, images, self.settings.system_prompt)
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def text_ids(self, sample: DrivingSample) -> list[int]:
        """The ids of the chat text, one placeholder per image: what an engine is handed that expands them itself."""
        text = self.text(sample)
        return list(self.processor.tokenizer(text, **begins(self.processor, text))["input_ids"])

    def images(self, views: Views) -> list[Image.Image]:
        """The images of a prompt at the size the recipe asks for, each drawn once (a group's requests share them).

        Raises:
            DataError: a file is missing, damaged or of the wrong kind; the message names it.
        """
        return [self._draw(picture) for picture in pictures(views, self.settings)]

    def image_ids(self, views: Views) -> list[str]:
        """A name for the pixels of each image of a prompt."""
        return [picture_id(picture, self.settings) for picture in pictures(views, self.settings)]

    def inputs(self, sample: DrivingSample) -> Any:
        """All that the model takes for a prompt, one row: `input_ids`, `attention_mask` and image tensors."""
        images, text = self.images(views_of(sample)), self.text(sample)
        beginning = begins(self.processor, text)
        return self.processor(images=images or None, text=text, return_tensors="pt", **beginning)

    def prompt_ids(self, sample: DrivingSample) -> tuple[int, ...]:
        """The prompt's token ids with every image placeholder expanded, as the engine sees them."""
        return tuple(self.inputs(sample)["input_ids"][0].tolist())

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """The ids of a demonstrated answer, closed by the end-of-turn token.

        Raises:
            DataError: the answer holds a special token of the model.
        """
        if (token := self.special.first([answer])) is not None:
            raise DataError(f"the answer {answer[:80]!r} holds {token!r}, a special token of the model")
        tokenizer = self.processor.tokenizer
        return (*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)

    def tokens_until(self, token_ids: Sequence[int], ends: Sequence[int]) -> list[int]:
        """For each index in characters of a response: how many of its tokens it takes to write that far (1 or more)."""

        def written(count: int) -> int:
            return len(self.processor.tokenizer.decode(token_ids[:count], skip_special_tokens=True))

        counts = range(1, len(token_ids) + 1)
        return [min(len(token_ids), 1 + bisect.bisect_left(counts, end, key=written)) for end in ends]

    def image_tensors(self, views: Views) -> dict[str, Tensor]:
        """The processor's image tensors for one prompt, computed once per set of views and kept within a byte bound.

        They can be concatenated along dimension 0 with those of prompts that have other numbers of images or patches.
        """
        if (cached := self._tensors.get(views)) is not None:
            return cached
        tensors = _unnested(self._image_inputs([self.images(views)]))
        self._keep(views, tensors)
        return tensors

    def prepare(self, prompts: Iterable[Views]) -> None:
        """Compute the image tensors of several prompts, all those of as many images in one call of the processor.

        A call costs milliseconds whatever the pixels. Processors that give an image more than one row, or none of its
        own, are left to `image_tensors`.

        Raises:
            DataError: as `images`.
        """
        missing = [views for views in dict.fromkeys(prompts) if views not in self._tensors]
        counted = sorted(((len(pictures(views, self.settings)), views) for views in missing), key=lambda one: one[0])
        for count, group in groupby(counted, key=lambda one: one[0]):
            sets = [views for _, views in group]
            if not count or len(sets) < 2 or not self._a_row_each:
                continue
            tensors = self._image_inputs([self.images(views) for views in sets])
            rows = tensors.get("pixel_values", torch.empty(0))
            self._a_row_each = len(tensors) == 1 and rows.ndim == 4 and len(rows) == count * len(sets)
            if self._a_row_each:
                for views, own in zip(sets, rows.split(count), strict=True):
                    self._keep(views, {"pixel_values": own.clone()})  # a part would keep the whole

    def _keep(self, views: Views, tensors: dict[str, Tensor]) -> None:
        if tensor_bytes(tensors) <= self._tensors.maxsize:
            self._tensors[views] = tensors

    def blank_prompt(self) -> tuple[int, ...]:
        """The prompt ids of one black image (`policies.views.BLANK`) and no question."""
        text = self.processor.apply_chat_template(chat_messages("", 1, None), tokenize=False)
        beginning = begins(self.processor, text)
        inputs = self.processor(images=self.images((BLANK,)), text=text, return_tensors="pt", **beginning)
        return tuple(inputs["input_ids"][0].tolist())

    def _image_inputs(self, prompts: list[list[Image.Image]]) -> dict[str, Tensor]:
        """What the processor makes of the images of prompts, as many for each: it may cut them otherwise than its
        image processor does alone."""
        if not (count := len(prompts[0])):
            return {}
        text = self.processor.apply_chat_template(chat_messages("", count, None), tokenize=False)
        if len(prompts) == 1:
            inputs = self.processor(images=prompts[0], text=text, return_tensors="pt")
        else:
            inputs = self.processor(images=prompts, text=[text] * len(prompts), return_tensors="pt")
        return {name: v for name, v in inputs.items() if name not in TEXT_INPUTS and isinstance(v, torch.Tensor)}

    def _draw(self, picture: Picture) -> Image.Image:
        if (image := self._drawn.get(picture)) is None:
            image = draw(picture, self.settings)
            if _pixels(image) <= self._drawn.maxsize:
                self._drawn[picture] = image
        return image


def tensor_bytes(tensors: dict[str, Tensor]) -> int:
    """Bytes that some tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _unnested(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Idefics3 puts all images of a prompt into one row; one row for each of them is the same to the model."""
    if "pixel_values" not in tensors or tensors["pixel_values"].ndim != 5:
        return tensors
    return {name: tensor.transpose(0, 1) for name, tensor in tensors.items()}


def _pixels(image: Image.Image) -> int:
    return image.width * image.height * 3
