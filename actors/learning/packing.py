"""`Packing`: groups become micro-batches on a learner rank's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from actors.settings import LearnerSettings
from policies.batch import Batch, TrainingGroup, pack
from policies.model import Policy
from policies.prompt import PromptEncoder
from policies.views import BLANK
from policies.vision import FrameFeatures, keeps_features


class Packing:
    """Of one rank."""

    def __init__(
        self, policy: Policy, encoder: PromptEncoder, settings: LearnerSettings, device: torch.device | str
    ) -> None:
        """Where tower and projector are fixed, what they make of a frame is computed once and kept."""
        self._policy, self._encoder, self._ranks, self._device = policy, encoder, settings.ranks, device
        # Not under ZeRO-3, where all ranks must run the tower together: one may have kept what another has not.
        self.keeps_features = settings.zero_stage < 3 and keeps_features(policy.body)
        pixels = encoder.image_tensors
        self.image_inputs = FrameFeatures(policy.body, pixels) if self.keeps_features else pixels

    def __call__(self, groups: Sequence[TrainingGroup]) -> Batch:
        """Groups as one micro-batch.

        Where the other ranks may show images and these groups show none, a black one goes along, as a prompt without
        responses: ZeRO reduces gradients in the order of their arrival, so that all ranks must compute the same way.
        """
        towers_meet = self._ranks > 1 and not self.keeps_features
        if towers_meet and not any(group.images for group in groups):
            groups = [*groups, TrainingGroup((BLANK,), self._encoder.blank_prompt(), ())]
        if not self.keeps_features:  # else most pixels are not needed any more
            self._encoder.prepare(group.images for group in groups)
        batch = pack(
            groups,
            self.image_inputs,
            pad_id=self._encoder.processor.tokenizer.pad_token_id or 0,
            shared_prefix=self._policy.shares_prefix,
            prompt_positions=self._policy.prompt_positions,
        )
        return batch.to(self._device)
