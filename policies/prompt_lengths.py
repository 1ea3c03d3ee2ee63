"""How many tokens prompts have, found without preprocessing the images of each."""

from __future__ import annotations

from transformers import AutoConfig

from data.images import image_size
from data.sample import LIDAR, DrivingSample
from policies.model import check_checkpoint, load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings


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
        self._encoder = PromptEncoder(load_processor(source, settings), settings)
        text = AutoConfig.from_pretrained(source, revision=settings.revision).get_text_config()
        self.context: int | None = getattr(text, "max_position_embeddings", None)
        """The most tokens that the model takes, prompt and answer together; None where its config does not say."""
        self._of_images: dict[tuple[tuple[str, tuple[int, int] | None], ...], int] = {}

    def __call__(self, sample: DrivingSample) -> int:
        """The number of tokens of a sample's prompt.

        Raises:
            ImageError: an image cannot be read.
        """
        fixed = self._encoder.settings.image_size
        views = tuple(
            (name, fixed or (None if name == LIDAR else image_size(path))) for name, path in sample.images.items()
        )
        words = len(self._encoder.processor.tokenizer(self._encoder.text(sample))["input_ids"])
        if views not in self._of_images:
            self._of_images[views] = len(self._encoder.prompt_ids(sample)) - words
        return words + self._of_images[views]
