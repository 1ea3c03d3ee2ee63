"""Every format by name: the paths it cannot do without, and a stream of its samples.

Settings and scripts know the loaders by this table alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import DataError
from data.faults import Faults
from data.formats.bdd_oia import read_bdd_oia
from data.formats.driveaction import read_driveaction
from data.formats.drivebench import read_drivebench
from data.formats.drivelm import read_drivelm
from data.formats.drivelm_carla import read_drivelm_carla
from data.formats.drivelmm_o1 import read_drivelmm_o1
from data.formats.nuscenes import read_trajectories
from data.jsonl import read_jsonl
from data.sample import DrivingSample
from data.settings import DataSettings

_NUSCENES = "the folder that holds samples/CAM_FRONT/..."


@dataclass(frozen=True, slots=True)
class _Source:
    """The settings of a source with the paths that every reader takes."""

    settings: DataSettings
    annotations: Path
    image_root: Path | None
    image_folder: Path
    """Where images that lie inside annotation files are written."""

    @property
    def images(self) -> Path:
        """The image root of a format that needs one."""
        assert self.image_root is not None
        return self.image_root


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the settings that must name something beside its annotations, and how it is read."""

    annotations: str
    """What `data.annotations` must name."""
    read: Callable[[_Source, Faults], Iterator[DrivingSample]]
    needs: dict[str, str] = field(default_factory=dict)
    """Further settings that it cannot do without, and what they must name."""


FORMATS: dict[str, Format] = {
    "jsonl": Format("the JSONL file", lambda s, faults: read_jsonl(s.annotations, faults, s.image_root)),
    "drivelm": Format(
        "the JSON file",
        lambda s, faults: read_drivelm(s.annotations, s.images, faults),
        {"image_root": _NUSCENES},
    ),
    "drivebench": Format(
        "the JSON file",
        lambda s, faults: read_drivebench(
            s.annotations,
            None if s.settings.without_images else s.images,
            faults,
            s.settings.visual_descriptions,
        ),
        {"image_root": "the folder that holds samples/CAM_FRONT/..., or a corruption's CAM_FRONT/..."},
    ),
    "drivelmm_o1": Format(
        "the JSON file",
        lambda s, faults: read_drivelmm_o1(s.annotations, s.images, faults, s.settings.name_cameras),
        {"image_root": _NUSCENES},
    ),
    "bdd_oia": Format(
        "the *_actions.json file",
        lambda s, faults: read_bdd_oia(
            s.annotations,
            _given(s.settings.reasons),
            s.images,
            faults,
            s.settings.frames,
            s.settings.reason_order,
            s.settings.reply,
        ),
        {"reasons": "the *_reasons.json file", "image_root": "the folder of the frames"},
    ),
    "driveaction": Format(
        "the parquet file, or a folder of them",
        lambda s, faults: read_driveaction(
            s.annotations, s.image_folder, faults, s.settings.context_mode, s.settings.language
        ),
    ),
    "drivelm_carla": Format(
        "the JSON file, or a folder of one for each frame",
        lambda s, faults: read_drivelm_carla(s.annotations, s.images, faults),
        {"image_root": "the folder that image paths are relative to"},
    ),
    "nuscenes": Format(
        "the folder of JSON tables, or a JSON file of prepared trajectories",
        lambda s, faults: read_trajectories(s.annotations, s.images, faults),
        {"image_root": _NUSCENES},
    ),
}


def absent_paths(settings: DataSettings) -> list[str]:
    """The settings that a format cannot do without and that name nothing, each with what it should name."""
    if settings.source not in FORMATS:
        return []
    format_ = FORMATS[settings.source]
    needs = {"annotations": format_.annotations, **format_.needs}
    if settings.source == "drivebench" and settings.without_images:
        del needs["image_root"]
    return [f"data.{name} ({what})" for name, what in needs.items() if getattr(settings, name) is None]


def read_source(settings: DataSettings, cache: Path, faults: Faults) -> Iterator[DrivingSample]:
    """The samples of a dataset's files, one after the other.

    Args:
        settings: which format and where; `source` is one of `FORMATS`.
        cache: folder for images that lie inside annotation files, where `image_root` names none.
        faults: takes what is wrong with the files' entries.

    Raises:
        DataError: a path that the format needs is not given, or as its reader raises.
    """
    if absent := absent_paths(settings):
        raise DataError(f"data.source={settings.source} needs {' and '.join(absent)} as well")
    format_ = FORMATS[settings.source]
    folder = settings.image_root or cache / f"{settings.source}-images"
    return format_.read(_Source(settings, _given(settings.annotations), settings.image_root, folder), faults)


def _given(path: Path | None) -> Path:
    assert path is not None  # read_source has looked
    return path
