"""All samples that a format's reader gives of a file, with their faults, by the settings that a recipe has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.faults import Faults, LoadedSamples, collected
from data.formats.registry import read_source
from data.settings import DataSettings


def load_as(
    source: str, annotations: Path, image_root: Path | None = None, strict: bool = False, **settings: Any
) -> LoadedSamples:
    """The samples of a file in the format `source`.

    Raises:
        DataError: as the format's reader, or none is left.
    """
    faults = Faults(strict)
    asked = DataSettings(source=source, annotations=annotations, image_root=image_root, **settings)
    return collected(annotations, source, read_source(asked, annotations.parent, faults), faults)
