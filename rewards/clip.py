"""R1 of BDD-OIA: how well a caption fits the frames, by CLIP. Pure: what embeds frames and texts lies in `actors`.

R1 = 100 * max(0, v . t): v is the mean of the frames' normalised embeddings, not normalised again (as in the paper), t
the caption's normalised embedding. For A2C the reward comes in increments along the caption: r(k+1) = R1(T(k+1)) -
R1(T(k)) for its growing prefixes T; the first of them is what saying nothing is worth, so they add up to the R1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import regex

from data.reading.words import CLAUSE_END, SENTENCE_END, UNSPACED
from data.sample import LIDAR, DrivingSample
from rewards.answer import answer_part
from rewards.json_answer import json_answer
from rewards.score import Increment, Score

ClipFailureReason = Literal["timeout", "actor_lost", "unreadable_frame", "invalid_value"]
CLIP_FAILURE_REASONS: tuple[ClipFailureReason, ...] = get_args(ClipFailureReason)

Reads = Literal["answer", "description", "justification"]
Span = Literal["sentence", "clause", "word"]

_SPAN_ENDS: dict[Span, regex.Pattern[str]] = {
    "sentence": regex.compile(rf"{SENTENCE_END}\s*"),
    "clause": regex.compile(rf"{CLAUSE_END}\s*"),
    "word": regex.compile(rf"{UNSPACED}\p{{M}}*[^\s\p{{L}}\p{{N}}]*\s*|(?<=\S)(?:\s+|$)", regex.V1),
}


class ClipFailed(RuntimeError):
    """CLIP gave no similarity, for a reason that is counted under its name; the rollout is masked, never a zero."""

    def __init__(self, reason: ClipFailureReason, detail: str) -> None:
        """Keep the reason for the counts and the detail for people."""
        super().__init__(f"{reason}: {detail}")
        self.reason: ClipFailureReason = reason


class FrameTextSimilarity(Protocol):
    """Anything that can say how alike frames and texts are."""

    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        """v . t in [-1, 1] for each text, all of them against the same frames.

        Args:
            frames: paths of a scene's images; together they are its name, so a scene is embedded once.
            texts: captions; an empty one is allowed.

        Raises:
            ClipFailed: there are no similarities.
        """
        ...


@dataclass(frozen=True, slots=True)
class AlignmentScorer:
    """Scores by CLIP: what a response says of its frames, and on request what each span of it added."""

    reads: Reads = "answer"
    increments: Span | None = None

    async def score(self, clip: FrameTextSimilarity, sample: DrivingSample, text: str) -> Score:
        """R1 with the part `cosine`; with increments also the part `nothing_said`, the R1 of the empty caption.

        A response without a caption (see `caption_in`) is worth 0 under the part `no_caption`: it is no failure, the
        policy said nothing.

        Raises:
            ClipFailed: there are no similarities, or they are no numbers in [-1, 1].
        """
        caption = caption_in(text, self.reads)
        if not caption:
            return Score(0.0, {"no_caption": 1.0}, () if self.increments else None)
        frames = [path for name, path in sample.images.items() if name != LIDAR]
        if self.increments is None:
            (cosine,) = await _checked(clip, frames, [caption])
            return Score(alignment(cosine), {"cosine": cosine})
        ends = prefix_ends(caption, self.increments)
        prefixes = [caption[:end] for end in ends]
        cosines = await _checked(clip, frames, ["", *prefixes])
        worth = [alignment(cosine) for cosine in cosines]
        gains = [worth[0], *(after - before for before, after in itertools.pairwise(worth))]
        # A caption with escapes does not stand in the response letter by letter: all of it is then earned at the end.
        start = text.find(caption)
        places = [len(text)] * len(ends) if start < 0 else [start + end for end in ends]
        increments = tuple(itertools.starmap(Increment, zip(gains, [0, *places], strict=True)))
        return Score(worth[-1], {"cosine": cosines[-1], "nothing_said": worth[0]}, increments)


def alignment(cosine: float) -> float:
    """R1 of a similarity, 0-100."""
    return 100.0 * max(0.0, min(1.0, cosine))


def caption_in(text: str, reads: Reads) -> str:
    """What is compared with the frames: the answer part, or one field where the answer is a JSON object.

    With `description` or `justification` an answer that is no JSON object is its own caption (how well-formed it is,
    R3 says); an object without that field, or with something else than words in it, holds none.
    """
    if reads != "answer" and (found := json_answer(text)) is not None:
        field = found[0].get(reads)
        return field.strip() if isinstance(field, str) else ""
    return answer_part(text)


def prefix_ends(caption: str, by: Span) -> tuple[int, ...]:
    """Where the spans of a caption end, in characters, rising; the last is its length. Empty for an empty caption.

    White space behind a span belongs to it. A full stop or comma inside a word or number ends nothing ("0.5"). Words
    and sentences are those of `data.reading.words`.
    """
    ends = {match.end() for match in _SPAN_ENDS[by].finditer(caption)} | {len(caption)}
    return tuple(sorted(ends - {0}))


async def _checked(clip: FrameTextSimilarity, frames: list[str], texts: list[str]) -> list[float]:
    cosines = await clip.similarities(frames, texts)
    bad = [cosine for cosine in cosines if not (math.isfinite(cosine) and abs(cosine) <= 1.0 + 1e-3)]
    if bad or len(cosines) != len(texts):
        raise ClipFailed("invalid_value", f"{len(texts)} texts, of which CLIP says {cosines[:8]}")
    return cosines
