"""A dataset of one's own, whole: `data.source=docs.examples.notes:Notes`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.admission import admitted, make_sample
from data.faults import MALFORMED, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.frame_ids import NamedFrames
from data.sample import DrivingSample
from data.text_file import read_text

NAME = "docs.examples.notes:Notes"


class Notes(Format):
    """A text file of lines: scene, image, question and answer, parted by bars."""

    class Settings(FormatSettings):
        """Where it lies, and how it is asked."""

        annotations: Path
        """The text file."""
        image_root: Path
        """The folder that image paths are relative to."""
        polite: bool = False
        """Ask with a please."""

    settings: Settings
    licence = Licence(name="Notes licence", spdx="CC-BY-4.0", non_commercial=False, attribution="A user")
    images_per_prompt = 1

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """One sample for each line."""
        return admitted(self._samples(faults), faults)

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The images that the lines name; with this, `prepare_data.py build --exclude` can keep them out."""
        return NamedFrames(frozenset(line.split("|")[1] for line in read_text(file).splitlines()))

    def _samples(self, faults: Faults) -> Iterator[DrivingSample]:
        for number, line in enumerate(read_text(self.settings.annotations).splitlines()):
            parts = line.split("|")
            if len(parts) != 4:
                faults.drop(MALFORMED, f"line {number}", f"line {number} has {len(parts)} parts, not 4")
                continue
            scene, image, question, answer = parts
            sample = make_sample(
                faults,
                id=f"{scene}-{number}",
                scene_id=scene,
                frame_id=image,
                task="planning",
                question=f"Please: {question}" if self.settings.polite else question,
                answer=answer,
                images={"CAM_FRONT": str((self.settings.image_root / image).resolve())},
            )
            if sample is not None:
                yield sample
