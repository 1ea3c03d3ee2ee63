"""`ClipScorer`: a CLIP that says how alike frames and texts are, made to run as a Ray actor.

A frame is embedded once and kept; images are decoded by threads while the model works on those before them. What a
similarity is worth is the business of `rewards`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from cachetools import LRUCache
from torch import Tensor

from data.images import ImageError, open_image
from rewards.settings import ClipSettings

ENTRY_OVERHEAD = 600
"""Bytes that a kept embedding takes besides its numbers: tensor, key, and the cache's own entries."""

FrameKey = tuple[str, int, int]
"""Path, size and time of change: a file that is written anew is another frame."""


@dataclass(frozen=True, slots=True)
class SimilarityRequest:
    """The frames of one scene, and the texts to compare with them."""

    frames: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SimilarityReply:
    """v . t for each text of a request; or `unreadable`, a sentence that names the frame that is no image."""

    cosines: tuple[float, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The replies in the order of the requests, and what they cost."""

    replies: tuple[SimilarityReply, ...]
    embedded: int
    """Frames decoded and embedded."""
    cached: int
    """Different frames that were embedded before."""
    full_texts: int
    """Different texts that fill CLIP's context: what they say beyond it was not read."""


class ClipScorer:
    """One actor. Calls are answered one after another."""

    def __init__(self, source: str, settings: ClipSettings) -> None:
        """Remember what to load (see `load_clip`); `start` loads it."""
        self.source, self.settings = source, settings
        self._threads = settings.threads or max(1, int(settings.cpus))
        self._kept: LRUCache[FrameKey, Tensor] = LRUCache(settings.cache_mib * 2**20, getsizeof=_bytes_of)
        self._decoders = ThreadPoolExecutor(self._threads)

    def start(self) -> float:
        """Load the model; returns the seconds it took."""
        from policies.clip import load_clip  # open_clip takes seconds to import: here alone, not in every script

        began = time.time()
        torch.set_num_threads(self._threads)
        settings, device = self.settings, "cuda" if self.settings.gpus else "cpu"
        self._clip = load_clip(self.source, settings.pretrained, device=device, precision=settings.precision)
        return time.time() - began

    def score(self, requests: Sequence[SimilarityRequest]) -> ScoredBatch:
        """The similarities of many requests; each different frame and text of them is embedded once."""
        keys, faults = _frame_keys({frame for request in requests for frame in request.frames})
        found = {key: kept for key in keys.values() if (kept := self._kept.get(key)) is not None}
        cached = len(found)
        for key, embedding in self._embed_frames([key for key in keys.values() if key not in found]):
            if isinstance(embedding, ImageError):
                faults[key[0]] = str(embedding)
            else:
                found[key] = self._kept[key] = embedding
        texts, full = self._embed_texts(dict.fromkeys(text for r in requests for text in r.texts))
        replies = []
        for request in requests:
            unreadable = next((faults[frame] for frame in request.frames if frame in faults), None)
            if not request.frames:
                unreadable = "there are no frames to compare with"
            if unreadable is not None:
                replies.append(SimilarityReply(unreadable=unreadable))
                continue
            mean_D = torch.stack([found[keys[frame]] for frame in request.frames]).mean(dim=0)
            replies.append(SimilarityReply(tuple(float(texts[text] @ mean_D) for text in request.texts)))
        return ScoredBatch(tuple(replies), len(found) - cached, cached, full)

    def _embed_frames(self, keys: Sequence[FrameKey]) -> Iterator[tuple[FrameKey, Tensor | ImageError]]:
        """Each frame with its embedding, or with what is wrong with its file."""
        decoded = zip(keys, self._decoders.map(self._decode, keys), strict=True)
        sound: list[tuple[FrameKey, Tensor]] = []
        for key, pixels in decoded:
            if isinstance(pixels, ImageError):
                yield key, pixels
                continue
            sound.append((key, pixels))
            if len(sound) == self.settings.batch_size:
                yield from self._forward(sound)
                sound = []
        if sound:
            yield from self._forward(sound)

    def _forward(self, batch: list[tuple[FrameKey, Tensor]]) -> Iterator[tuple[FrameKey, Tensor]]:
        embedded = self._clip.embed_frames(torch.stack([pixels for _, pixels in batch]))
        # Cloned: a row of the batch would keep all of it alive in the cache.
        yield from ((key, row.clone()) for (key, _), row in zip(batch, embedded, strict=True))

    def _decode(self, key: FrameKey) -> Tensor | ImageError:
        try:
            return self._clip.pixels(open_image(key[0]))
        except ImageError as error:
            return error

    def _embed_texts(self, texts: Iterable[str]) -> tuple[dict[str, Tensor], int]:
        """The embedding of each text, and how many texts fill the context."""
        ordered = list(texts)
        if not ordered:
            return {}, 0
        tokens_NT = self._clip.tokens(ordered)
        lengths = self._clip.lengths(tokens_NT)
        embedded: dict[str, Tensor] = {}
        for some in lengths.argsort().split(self.settings.batch_size):  # a batch is as long as its longest text
            rows = self._clip.embed_texts(tokens_NT[some])
            embedded |= {ordered[index]: row for index, row in zip(some.tolist(), rows, strict=True)}
        return embedded, int((lengths == tokens_NT.shape[1]).sum())


def _frame_keys(frames: set[str]) -> tuple[dict[str, FrameKey], dict[str, str]]:
    """The key of each frame, and what is wrong with those that are not there."""
    keys: dict[str, FrameKey] = {}
    faults: dict[str, str] = {}
    for frame in frames:
        try:
            state = os.stat(frame)
        except OSError as error:
            faults[frame] = f"image {frame} cannot be read: {error.strerror}"
            continue
        keys[frame] = (frame, state.st_size, state.st_mtime_ns)
    return keys, faults


def _bytes_of(embedding: Tensor) -> int:
    return embedding.numel() * embedding.element_size() + ENTRY_OVERHEAD
