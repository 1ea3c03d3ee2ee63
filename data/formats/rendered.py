"""Rendered scenes as a dataset: six cameras, exact ground truth, drawn on first use by `data.rendered`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from data.faults import Faults
from data.formats.format import Format, FormatSettings, Licence
from data.rendered.questions import driving_text
from data.rendered.samples import FORMAT, rendered_samples
from data.sample import DrivingSample


class Rendered(Format):
    """Scenes drawn here; their images stay in the cache."""

    class Settings(FormatSettings):
        """How much is drawn, and what is asked."""

        scenes: int = Field(400, ge=1)
        """How many scenes are drawn, training and held out together."""
        questions: Literal["drivelm", "describe"] = "drivelm"
        """Seven questions of a scene in DriveLM's manner, or one that asks what the cameras show."""
        seed: int | None = None
        """Seed of the scenes; None: `data.seed`, which also draws the split and the order."""

    settings: Settings
    licence = Licence(
        name="Apache License 2.0",
        spdx="Apache-2.0",
        non_commercial=False,
        attribution="AutoDriveRL, whose code draws the scenes",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `rendered_samples`; a folder of the cache that is complete is not drawn again."""
        given = self.settings
        seed = seed if given.seed is None else given.seed
        folder = cache / f"rendered-{given.scenes}-{seed}-v{FORMAT}"
        return iter(rendered_samples(folder, given.scenes, seed, given.questions))

    def corpus(self, train: Sequence[DrivingSample]) -> tuple[str, ...]:
        """Every text that questions and answers are put together from, and the descriptions where those are asked."""
        described = [sample.answer for sample in train] if self.settings.questions == "describe" else []
        return (*driving_text(), *described)
