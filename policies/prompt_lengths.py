"""How many tokens prompts have, found without preprocessing the images of each."""

from __future__ import annotations

import re
from dataclasses import replace

from transformers import AutoConfig

from data.images import image_size
from data.sample import LIDAR, DrivingSample
from policies.heads.faults import HeadFaults
from policies.model import check_checkpoint, load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings

_PLAIN_POSITIONS = {"default", "mrope", "llama3"}


class PromptLengths:
    """Lengths of prompts for one model, as `PromptEncoder.prompt_ids` would give them.

    How many tokens images take depends on their number and sizes alone, so a processor sees the images of the first
    sample of each such set; for the others the text is tokenised and the same number added.
    """

    def __init__(self, source: str, settings: PolicySettings) -> None:
        """Load the processor of a checkpoint folder or hub name.

        Raises:
            PolicyError: it is no image-text-to-text model, or its processor is missing.
        """
        check_checkpoint(source, settings)
        self.encoder = PromptEncoder(load_processor(source, settings), settings)
        text = AutoConfig.from_pretrained(source, revision=settings.revision, trust_remote_code=False).get_text_config()
        self.context: int | None = getattr(text, "max_position_embeddings", None)
        """The most tokens that the model takes, prompt and answer together; None where its config does not say."""
        kinds = re.findall(r"'(?:rope_)?type': '(\w+)'", str(getattr(text, "rope_parameters", None)))
        self.stretches = bool(set(kinds) - _PLAIN_POSITIONS)
        """Whether its positions are scaled, so that engines take more than `context`."""
        self.heads = HeadFaults(source, settings, self.encoder)
        """What is wrong with a sample's driving tokens."""
        self._of_images: dict[tuple[tuple[str, tuple[int, int] | None], ...], int] = {}
        self._around: dict[int, int] = {}

    def __call__(self, sample: DrivingSample) -> int:
        """The number of tokens of a sample's prompt.

        Raises:
            ImageError: an image cannot be read.
        """
        words = len(self.encoder.text_ids(sample))
        return words + self._images(sample, words)

    def at_most(self, sample: DrivingSample) -> int:
        """That number or more, found without cutting the text into tokens: two for each byte of the question.

        Raises:
            ImageError: an image cannot be read.
        """
        images = len(sample.images)
        if images not in self._around:
            self._around[images] = len(self.encoder.text_ids(replace(sample, question="")))
        return self._around[images] + 2 * len(sample.question.encode()) + self._images(sample, None)

    def _images(self, sample: DrivingSample, words: int | None) -> int:
        """What the images of a prompt add to its text, which has `words` tokens (None: not counted yet)."""
        fixed = self.encoder.settings.image_size
        views = tuple(
            (name, fixed or (None if name == LIDAR else image_size(path))) for name, path in sample.images.items()
        )
        if views not in self._of_images:
            words = len(self.encoder.text_ids(sample)) if words is None else words
            self._of_images[views] = len(self.encoder.prompt_ids(sample)) - words
        return self._of_images[views]
