"""The expert's drives in the closed-loop world as a dataset: what a policy that acts in it is warmed up on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from data.driving.codec import book_of
from data.driving.demonstrations import FORMAT, demonstrations, spoken_text
from data.driving.environment import DrivingSettings
from data.driving.families import FAMILIES
from data.episode import RUNS_APART, SHOWN, Start
from data.faults import Faults
from data.formats.format import Format, FormatSettings, Licence
from data.sample import DrivingSample


class Driving(Format):
    """Drives of the expert, drawn here; their images stay in the cache."""

    class Settings(FormatSettings):
        """How many drives, and what is shown and said in them, which should be as in `environment.options`."""

        scenarios: int = Field(120, ge=2)
        """How many scenarios the expert drives, the families in turn, training and held out together."""
        first: int | None = None
        """The seed of the first scenario of each family; None: as the run's seed gives it."""
        answer: Literal["act", "think"] = "act"
        """What is demonstrated: the action alone, or perception, prediction, planning and behavior before it."""
        views: Literal["grid", "six"] = "grid"
        """The six cameras as one image, or as six."""
        codebook: str | None = None
        """The codebook of the action tokens that are said, as in `environment.options`; None: words."""
        families: tuple[str, ...] = tuple(FAMILIES)
        """The scenario families that are driven."""

    settings: Settings
    licence = Licence(
        name="Apache License 2.0",
        spdx="Apache-2.0",
        non_commercial=False,
        attribution="AutoDriveRL, whose code draws the world",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """The turns of the drives; a folder of the cache that is complete is not drawn again."""
        given = self.settings
        first = SHOWN + seed * RUNS_APART if given.first is None else given.first
        families = given.families
        starts = [
            Start(families[number % len(families)], first + number // len(families))
            for number in range(given.scenarios)
        ]
        spoken = f"-{book_of(given.codebook).hash}" if given.codebook else ""
        folder = cache / f"driving-{given.scenarios}-{first}-{len(families)}{spoken}-v{FORMAT}"
        return iter(demonstrations(folder, starts, self._world))

    @property
    def _world(self) -> DrivingSettings:
        given = self.settings
        return DrivingSettings(answer=given.answer, views=given.views, codebook=given.codebook, families=given.families)

    @property
    def images_per_prompt(self) -> int | None:
        """One grid, or six cameras."""
        return 1 if self.settings.views == "grid" else None

    def corpus(self, train: Sequence[DrivingSample]) -> tuple[str, ...]:
        """Every text of the world, whatever was driven."""
        return spoken_text(self._world)
