"""All samples that a format's reader gives of a file, with their faults, by the settings that a recipe has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.faults import Faults, LoadedSamples, collected
from data.formats.format import format_of
from data.sample import DrivingSample
from data.settings import DataSettings


def read_as(source: str, cache: Path, faults: Faults, **options: Any) -> Iterator[DrivingSample]:
    """The samples of a source with these options, one after the other.

    Raises:
        ExtensionError, DataError: as `format_of` and the format's reader.
    """
    return format_of(DataSettings(source=source, options=options)).read(faults, cache, 0)


def load_as(
    source: str, annotations: Path, image_root: Path | None = None, strict: bool = False, **options: Any
) -> LoadedSamples:
    """The samples of a file in the format `source`.

    Raises:
        DataError: as the format's reader, or none is left.
    """
    faults = Faults(strict)
    given = options | ({} if image_root is None else {"image_root": image_root})
    read = read_as(source, annotations.parent, faults, annotations=annotations, **given)
    return collected(annotations, read, faults)
