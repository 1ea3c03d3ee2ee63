"""Prompts as chunks of tokens and images, and what they become for learners and engines.

An image becomes exactly the placeholders that the model's own processor puts there; a client that counts on another
number of them is refused with both. Knows no HTTP and no database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from policies.datums import Datum
from policies.model import load_processor, placeholder_ids
from policies.settings import PolicySettings
from policies.summed_losses import RATIO_LOSSES
from policies.views import View
from serve.errors import UserError
from serve.images import ImageRefused, decode_image
from serve.training.wire import array

FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG"}
"""Formats that a chunk may name, with Pillow's name of the only decoder that is tried."""
PER_TARGET = {"cross_entropy": ("weights",), **dict.fromkeys(RATIO_LOSSES, ("logprobs", "advantages"))}
"""What each loss reads of a datum beside its targets."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that a request shows."""

    digest: str
    """SHA-256 of its file."""
    width: int
    height: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """An image in a prompt; `expected` is what the client counts on, if it does."""

    digest: str
    expected: int | None


Chunk = tuple[int, ...] | ImageChunk


@dataclass(frozen=True, slots=True)
class Expanded:
    """A prompt with its images as placeholders."""

    token_ids: tuple[int, ...]
    folded_ids: tuple[int, ...]
    """The same with one placeholder for each image, which an engine expands itself."""
    images: tuple[str, ...]
    """Digests, in order."""
    image_end: int
    """Positions up to and with the last image; 0 without one."""


def check_image(data: bytes, kind: str, name: str, max_pixels: int) -> StoredImage:
    """Decode an image to see that it is one.

    Raises:
        UserError: it is none, of another format than it says, or too large.
    """
    if kind not in FORMATS:
        raise UserError(f"{name}: format {kind!r} is not served; send one of {', '.join(FORMATS)}")
    try:
        image = decode_image(data, name, FORMATS[kind], max_pixels)
    except ImageRefused as error:
        raise UserError(str(error)) from None
    return StoredImage(hashlib.sha256(data).hexdigest(), image.width, image.height, data)


class PromptReader:
    """Expands prompts for one base model."""

    def __init__(self, folder: str, policy: PolicySettings, max_length: int, max_images: int) -> None:
        """Load the processor of the model in `folder`.

        Args:
            folder: checkpoint folder or hub name.
            policy: how images are resized and cut.
            max_length: most positions that the model takes.
            max_images: most images in one prompt.
        """
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, revision=policy.revision, trust_remote_code=False)
        self.config = config
        self.processor = load_processor(folder, policy)
        self.vocabulary = int(config.get_text_config().vocab_size)
        self.max_length, self.max_images, self._size = max_length, max_images, policy.image_size
        self._forbidden = frozenset(placeholder_ids(config))
        self._forbidden_array = np.array(sorted(self._forbidden), np.int64)
        token = self.processor.image_token
        self._image_id = int(self.processor.tokenizer.convert_tokens_to_ids(token))
        self._expansions: dict[tuple[int, int], tuple[int, ...]] = {}

    def expansion(self, image: StoredImage) -> tuple[int, ...]:
        """The ids that an image becomes; they depend on its size alone."""
        size = self._size or (image.width, image.height)
        if size not in self._expansions:
            blank: Any = Image.new("RGB", size)
            inputs = self.processor(images=[blank], text=self.processor.image_token, add_special_tokens=False)
            ids = inputs["input_ids"]
            self._expansions[size] = tuple(int(one) for one in (ids[0] if isinstance(ids[0], list) else ids))
        return self._expansions[size]

    def expanded(self, chunks: Sequence[Chunk], images: dict[str, StoredImage], name: str) -> Expanded:
        """A prompt as the model reads it.

        Raises:
            UserError: it is empty or too long, a token is none of the model's or stands for an image, or an image takes
                another number of positions than the client says.
        """
        ids, folded, shown, end = list[int](), list[int](), list[str](), 0
        for place, chunk in enumerate(chunks):
            if isinstance(chunk, ImageChunk):
                own = self.expansion(images[chunk.digest])
                if chunk.expected is not None and chunk.expected != len(own):
                    raise UserError(
                        f"{name}.chunks[{place}]: expected_tokens is {chunk.expected}, and this model makes {len(own)} "
                        f"of the image: send {len(own)}, or leave it out"
                    )
                ids += own
                folded.append(self._image_id)
                shown.append(chunk.digest)
                end = len(ids)
                continue
            self._check_tokens(chunk, f"{name}.chunks[{place}]")
            ids += chunk
            folded += chunk
        if not ids:
            raise UserError(f"{name} is empty: send at least one token")
        if len(ids) > self.max_length:
            raise UserError(f"{name} has {len(ids)} positions, and this model takes {self.max_length}: shorten it")
        if len(shown) > self.max_images:
            raise UserError(f"{name} shows {len(shown)} images, and at most {self.max_images} are served in one prompt")
        return Expanded(tuple(ids), tuple(folded), tuple(shown), end)

    def _check_tokens(self, tokens: tuple[int, ...], name: str) -> None:
        for token in tokens:
            if not 0 <= token < self.vocabulary:
                raise UserError(f"{name}: token {token} is beyond the model's vocabulary of {self.vocabulary}")
            if token in self._forbidden:
                raise UserError(f"{name}: token {token} stands for an image: send an image chunk in its place")

    def datum(self, message: Any, loss: str, images: dict[str, StoredImage], folder: str, name: str) -> Datum:
        """A datum of the wire as the learner takes it.

        Args:
            message: the `Datum` in protobuf, its images replaced by their digests.
            loss: the name of the loss, which says what it must hold.
            images: by digest.
            folder: where the images lie as files, by digest.
            name: what messages call it.

        Raises:
            UserError: see the sentence.
        """
        prompt = self.expanded(chunks_of(message.model_input, name), images, f"{name}.model_input")
        inputs = self._inputs(message, loss, len(prompt.token_ids), name)
        targets = inputs["target_tokens"]
        credited = inputs["weights"] if loss == "cross_entropy" else inputs["advantages"]
        if ((targets < 0) | (targets >= self.vocabulary)).any():
            raise UserError(f"{name}.target_tokens holds a token beyond the model's vocabulary of {self.vocabulary}")
        impossible = np.isin(targets, self._forbidden_array)
        if (impossible & (credited != 0)).any():
            raise UserError(f"{name}.target_tokens asks for a token that stands for an image: give it weight 0")
        return Datum(
            images=tuple(View("IMAGE", f"{folder}/{digest}") for digest in prompt.images),
            token_ids=prompt.token_ids,
            prompt=max(1, prompt.image_end),
            targets_N_K=np.where(impossible, 0, targets).astype(np.int64),
            credits_N_K=credited.astype(np.float32),
            logprobs_N_K=inputs.get("logprobs", np.zeros(targets.shape)).astype(np.float32),
        )

    def _inputs(self, message: Any, loss: str, length: int, name: str) -> dict[str, np.ndarray]:
        """The arrays that a loss reads, each (N, K)."""
        if "target_tokens" not in message.loss_fn_inputs:
            raise UserError(f"{name}.loss_fn_inputs has no target_tokens: send one for each position")
        read, found = ("target_tokens", *PER_TARGET[loss]), dict[str, np.ndarray]()
        for key, tensor in message.loss_fn_inputs.items():
            if key not in read:
                raise UserError(f"{name}.loss_fn_inputs.{key} is not read by {loss}, which reads {', '.join(read)}")
            try:
                found[key] = array(tensor, f"{name}.loss_fn_inputs.{key}")
            except ValueError as error:
                raise UserError(str(error)) from None
        shape = found["target_tokens"].shape
        if loss == "cross_entropy":
            found.setdefault("weights", np.ones(shape, np.float32))
        for key in read:
            if key not in found:
                raise UserError(f"{name}.loss_fn_inputs has no {key}, which {loss} reads")
            if found[key].shape != shape or found[key].ndim not in (1, 2) or len(found[key]) != length:
                raise UserError(
                    f"{name}.loss_fn_inputs.{key} has shape {list(found[key].shape)}, and the model_input has {length} "
                    f"positions: send one row for each, of the shape of target_tokens ({list(shape)})"
                )
            if not np.isfinite(found[key]).all():
                raise UserError(f"{name}.loss_fn_inputs.{key} holds a value that is no finite number")
        return {key: value.reshape(length, -1) for key, value in found.items()}


def chunks_of(chunks: Sequence[Any], name: str) -> list[Chunk]:
    """The chunks of a datum, its images replaced by their digests.

    Raises:
        UserError: a chunk is of a kind that is not served.
    """
    found: list[Chunk] = []
    for place, chunk in enumerate(chunks):
        kind = chunk.WhichOneof("chunk")
        if kind == "encoded_text":
            if len(chunk.encoded_text.tokens) % 4:
                raise UserError(f"{name}.model_input.chunks[{place}]: tokens are no 32-bit integers")
            found.append(tuple(np.frombuffer(chunk.encoded_text.tokens, "<i4").tolist()))
        elif kind == "image":
            expected = chunk.image.expected_tokens if chunk.image.HasField("expected_tokens") else None
            found.append(ImageChunk(chunk.image.data.decode("ascii"), expected))
        else:
            raise UserError(f"{name}.model_input.chunks[{place}]: only tokens and images are served, not {kind}")
    return found
