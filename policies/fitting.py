"""Which samples a model can be asked, checked before anything starts: special tokens, images, lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data.errors import DataError
from data.faults import EMPTY_ANSWER, EMPTY_QUESTION, Faults
from data.formats.format import images_per_prompt
from data.sample import DrivingSample
from data.settings import DataSettings
from policies.prompt_lengths import PromptLengths
from policies.settings import PolicySettings
from policies.views import pictures, views_of

SPECIAL_TOKEN = "special_token"
STRIPPED = "special_token_taken_out"
TOO_MANY_IMAGES = "too_many_images"
IMAGE_REFUSED = "image_refused_by_processor"
PROMPT_TOO_LONG = "prompt_too_long"
OVERLONG = "longer_than_max_prompt_tokens"
"""Left out because `data.max_prompt_tokens` says so, not because it could not be asked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine takes."""

    max_images: int | None
    """Images of a prompt; None: any number."""
    room: int | None
    """Tokens of a prompt; None: any number."""
    room_by: str
    """The settings that leave that number, as messages name them."""
    longest: int | None = None
    """Tokens of the longest prompt that is wanted (`data.max_prompt_tokens`)."""


def most_images(data: DataSettings, policy: PolicySettings) -> int:
    """Images in one prompt, in training or in what is measured beside it, which may show six cameras."""
    return max(images_per_prompt(data) or 0, policy.images_per_prompt)


class Fitting:
    """Looks at samples one after another; keeps nothing of them."""

    def __init__(self, lengths: PromptLengths, limits: Limits, *, strip: bool, answers: bool = True) -> None:
        """Look at what a model is shown.

        Args:
            lengths: those of the model's prompts.
            limits: the engine's.
            strip: take special tokens out of texts instead of faulting the sample.
            answers: whether true answers and reasoning are shown too, in training.
        """
        self._lengths, self._limits, self._strip, self._answers = lengths, limits, strip, answers
        self._special = lengths.encoder.special

    def admitted(self, samples: Iterable[DrivingSample], faults: Faults) -> Iterator[DrivingSample]:
        """The samples that the model can be asked; others go to `faults`.

        Raises:
            DataError: `faults` is strict, and a sample is at fault.
        """
        for given in samples:
            sample = self._special.stripped(given) if self._strip else given
            if (fault := self._fault(sample)) is not None:
                reason, what = fault
                faults.drop(reason, sample.id, f"question {sample.id}{what}")
                continue
            if sample != given:
                faults.keep(STRIPPED, sample.id)
            yield sample

    def _fault(self, sample: DrivingSample) -> tuple[str, str] | None:
        found = self._special.first_of(sample, self._answers)
        if found is not None:
            token, where = found
            took = "data.special_tokens=strip takes such tokens out"
            return SPECIAL_TOKEN, f" has {token!r} in its {where}, a special token of the model: {took}"
        if not sample.question:
            return EMPTY_QUESTION, " holds special tokens of the model and nothing else"
        if self._answers and not sample.answer:
            return EMPTY_ANSWER, " has an answer of special tokens of the model and nothing else"
        if (fault := self._lengths.heads.fault(sample, answers=self._answers)) is not None:
            return fault
        images, most = len(pictures(views_of(sample), self._lengths.encoder.settings)), self._limits.max_images
        if most is not None and images > most:
            return TOO_MANY_IMAGES, f" shows {images} images, and rollout.max_images={most}: set it to {images} or more"
        return self._too_long(sample)

    def _too_long(self, sample: DrivingSample) -> tuple[str, str] | None:
        room, longest = self._limits.room, self._limits.longest
        bounds = [bound for bound in (room, longest) if bound is not None]
        try:
            if self._lengths.at_most(sample) <= min(bounds, default=math.inf):
                return None
            length = self._lengths(sample)
        except DataError:
            raise
        except (
            ValueError,
            ArithmeticError,
            IndexError,
        ) as error:  # how processors refuse images, such as 1 x 300 pixels
            return IMAGE_REFUSED, f" has an image that the model's processor does not take ({error})"
        if longest is not None and length > longest:
            return OVERLONG, f" has a prompt of {length} tokens, and data.max_prompt_tokens={longest}"
        if room is None or length <= room:
            return None
        return PROMPT_TOO_LONG, f" has a prompt of {length} tokens; {self._limits.room_by} leaves {room}"
