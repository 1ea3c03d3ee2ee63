"""What of a sample becomes an image of its prompt: six frames or one grid of them, and a LiDAR sweep seen from above.

Images only: token ids and tensors are `policies.prompt`'s. Coordinates in questions and answers are not touched: they
stay in each camera's own 1600x900 frame, also where the frame is a tile of a grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image

from data.images import open_image
from data.lidar import draw_sweep, read_sweep
from data.sample import CAMERAS, GRID, LIDAR, DrivingSample
from policies.settings import PolicySettings


class View(NamedTuple):
    """One image of a sample: what took it (a camera, `LIDAR_TOP`, or a dataset's own name) and its absolute path."""

    name: str
    path: str


Views = tuple[View, ...]
"""The images of a sample, by which everything made of them is kept and found again."""

BLANK = View("BLANK", "")
"""A black image of no file, for a rank whose questions show none while those of the others do."""

BLANK_SIZE = (64, 64)

Picture = tuple[View, ...]
"""The views that make one image of a prompt: one, or those of a grid."""


def views_of(sample: DrivingSample) -> Views:
    """All images of a sample in the order of every prompt: the cameras, others in the sample's order, the LiDAR."""
    names: list[str] = [camera for camera in CAMERAS if camera in sample.images]
    names += [name for name in sample.images if name not in (*CAMERAS, LIDAR)]
    names += [LIDAR] if LIDAR in sample.images else []
    return tuple(View(name, sample.images[name]) for name in names)


def pictures(views: Iterable[View], settings: PolicySettings) -> list[Picture]:
    """What is drawn for a prompt, in order, one item for each of its images.

    With `policy.views: stitched` the cameras that are there make one grid, and it stands first. The LiDAR is left out
    unless `policy.lidar` asks for it.
    """
    shown = [view for view in views if view.name != LIDAR or settings.lidar]
    if settings.views == "six":
        return [(view,) for view in shown]
    tiles = tuple(view for view in shown if view.name in CAMERAS)
    return [tiles] * bool(tiles) + [(view,) for view in shown if view.name not in CAMERAS]


def draw(picture: Picture, settings: PolicySettings) -> Image.Image:
    """One image of a prompt as RGB, at the size that the recipe asks for.

    Raises:
        DataError: a file is missing, damaged or of the wrong kind; the message names it.
    """
    if settings.views == "stitched" and picture[0].name in CAMERAS:
        return stitch({view.name: load_frame(view.path, settings.image_size) for view in picture})
    (view,) = picture
    if view == BLANK:
        return Image.new("RGB", settings.image_size or BLANK_SIZE)
    return _draw_lidar(view.path, settings) if view.name == LIDAR else load_frame(view.path, settings.image_size)


def load_frame(path: str, size: tuple[int, int] | None) -> Image.Image:
    """Open a frame as RGB, resized to (width, height) when a size is set.

    Raises:
        ImageError: the file is missing, truncated or no image; the message names it.
    """
    return resized(open_image(path), size)


def resized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """An image at (width, height); as it is when no size is set."""
    return image if size is None or image.size == tuple(size) else image.resize(size, Image.Resampling.BILINEAR)


def stitch(tiles: dict[str, Image.Image]) -> Image.Image:
    """The tiles of the cameras as one image of two rows and three columns (`GRID`); a camera without one stays black.

    Raises:
        ValueError: there is no tile, or two of them differ in size.
    """
    sizes = {tile.size for tile in tiles.values()}
    if len(sizes) != 1:
        raise ValueError(f"the tiles of a grid must be of one size, got {sorted(sizes)}")
    width, height = sizes.pop()
    grid = Image.new("RGB", (width * len(GRID[0]), height * len(GRID)))
    for row, cameras in enumerate(GRID):
        for column, camera in enumerate(cameras):
            if camera in tiles:
                grid.paste(tiles[camera], (column * width, row * height))
    return grid


def arrange(sent: Sequence[Image.Image], settings: PolicySettings) -> list[Image.Image]:
    """The images of a prompt out of those that came without names: the cameras in the order of `CAMERAS`.

    With `policy.lidar` the seventh is a sweep as `data.lidar.draw_sweep` draws it. Files that are shown as a sample and
    sent in this order give the very same pixels.

    Raises:
        ValueError: a grid is asked for and the images are not those of six cameras.
    """
    cameras, sweeps = (sent[: len(CAMERAS)], sent[len(CAMERAS) :]) if settings.lidar else (sent, [])
    if settings.views == "six":
        shown = [resized(image, settings.image_size) for image in cameras]
    elif len(cameras) == len(CAMERAS) and len(sweeps) <= 1:
        tiles = [resized(image, settings.image_size) for image in cameras]
        shown = [stitch(dict(zip(CAMERAS, tiles, strict=True)))]
    else:
        raise ValueError(
            f"{len(sent)} images in one message, but this policy sees a grid of six: send {', '.join(CAMERAS)}, in "
            f"this order{', and the drawn LiDAR sweep after them' if settings.lidar else ''}"
        )
    return shown + [resized(image, _lidar_size(settings)) for image in sweeps]


def picture_id(picture: Picture, settings: PolicySettings) -> str:
    """A name for the pixels of a picture: the same for the same files drawn by the same settings."""
    shown = (picture, settings.image_size, settings.views, settings.image_patches)
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:32]


def missing_views(samples: Iterable[DrivingSample], settings: PolicySettings) -> dict[str, list[str]]:
    """The ids of samples that lack an image the recipe asks for, by what becomes of them; they are used all the same.

    A camera that a grid lacks leaves a black tile, and a LiDAR that is not there no image.
    """
    found: dict[str, list[str]] = {"black_tile": [], "no_lidar": []}
    for sample in samples:
        if settings.views == "stitched" and 0 < len(sample.images.keys() & set(CAMERAS)) < len(CAMERAS):
            found["black_tile"].append(sample.id)
        if settings.lidar and LIDAR not in sample.images:
            found["no_lidar"].append(sample.id)
    return {reason: ids for reason, ids in found.items() if ids}


def _draw_lidar(path: str, settings: PolicySettings) -> Image.Image:
    return resized(draw_sweep(read_sweep(path)), _lidar_size(settings))


def _lidar_size(settings: PolicySettings) -> tuple[int, int] | None:
    """A sweep keeps its square form: its side is the shorter one of `policy.image_size`."""
    if settings.image_size is None:
        return None
    side = min(settings.image_size)
    return side, side
