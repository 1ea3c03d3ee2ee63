"""Your own samples as a dataset: a file of JSON lines, whose fields `docs/data.md` describes; `data.jsonl` reads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data.errors import DataError
from data.faults import Faults
from data.formats.format import UNKNOWN, Format, FormatSettings, Licence
from data.frame_ids import NamedFrames
from data.jsonl import read_jsonl
from data.sample import DrivingSample
from data.text_file import read_lines

_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_UNSAID = "unknown: say it in data.options.licence"


def licence_of(given: str | None, forbidden: bool | None, attribution: str) -> Licence:
    """The licence that a user states: an SPDX identifier, words, or nothing.

    Args:
        given: the licence; None: unknown.
        forbidden: whether commercial use is; None: as its SPDX identifier says.
        attribution: the makers of the data.
    """
    name = given or _UNSAID
    spdx = UNKNOWN if given is None else "LicenseRef-in-words"
    if _SPDX.fullmatch(given or ""):
        spdx = name
        if forbidden is None and not name.startswith("LicenseRef-"):
            forbidden = "NC" in name.upper().split("-")
    return Licence(name=name, spdx=spdx, non_commercial=forbidden, attribution=attribution)


class Jsonl(Format):
    """Samples of your own, or of another dataset that was converted."""

    class Settings(FormatSettings):
        """Where they lie, and under which terms."""

        annotations: Path
        """The JSONL file."""
        image_root: Path | None = None
        """The folder that image paths are relative to; None: the file's own."""
        licence: str | None = None
        """The licence of the data, as an SPDX identifier such as CC-BY-4.0 or in words; None: unknown. It goes into the
        model card of what is trained."""
        non_commercial: bool | None = None
        """Whether the licence forbids commercial use; None: as its SPDX identifier says, unknown where it has none."""
        attribution: str = ""
        """The makers of the data, for the model card."""

    settings: Settings

    @property
    def licence(self) -> Licence:
        """As the options say."""
        return licence_of(self.settings.licence, self.settings.non_commercial, self.settings.attribution)

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_jsonl`."""
        return read_jsonl(self.settings.annotations, faults, self.settings.image_root)

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The frames of all lines, and the images that they show."""
        ids, images, folder = set[str](), set[str](), file.parent.resolve()
        for number, raw in read_lines(file):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError) as error:
                where = f"{file} line {number}"
                raise DataError(f"{where} is not valid JSON ({error}): mend or remove the line") from None
            frame = (line.get("frame_id") or line.get("id")) if isinstance(line, dict) else None
            if not isinstance(frame, str):
                raise DataError(f"{file} line {number} names no frame: it needs frame_id or id (docs/data.md)")
            ids.add(frame)
            shown = line.get("images")
            paths = shown.values() if isinstance(shown, dict) else ()
            images.update(os.path.normpath(folder / image) for image in paths if isinstance(image, str))
        return NamedFrames(frozenset(ids), frozenset(images))
