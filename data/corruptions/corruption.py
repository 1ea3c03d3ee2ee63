"""The 15 corruptions of DriveBench: names, fixed severities, parameters, seeds. Touches no pixels."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import DataError

Scope = Literal["image", "frame", "run", "clip"]
"""What a corruption is drawn for: every image by itself, the six cameras of a frame, the whole run (cameras that stay
dark), or all frames of one camera of a scene, as a video."""

LIBRARY = "imagecorruptions (Hendrycks and Dietterich 2019, arXiv:1903.12261)"
ROBOBEV = "RoboBEV (arXiv:2405.17426)"
DRIVEBENCH = "DriveBench (arXiv:2501.04003)"


@dataclass(frozen=True, slots=True)
class Corruption:
    """One corruption at the one severity that DriveBench publishes.

    `name` is the folder of DriveBench's corrupted images. `library` is the function of imagecorruptions that does it;
    `parameters` then only tells what that function uses at this severity. Where it is None, `parameters` are the
    arguments of our own function. `random` is False where the seed changes nothing.
    """

    name: str
    severity: int
    scope: Scope
    parameters: dict[str, Any]
    source: str
    library: str | None = None
    random: bool = True


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("Brightness", 4, "image", {"value_added": 0.4}, LIBRARY, library="brightness", random=False),
    Corruption(
        "LowLight", 4, "image", {"scale": 0.2, "gamma": 2.0, "photons": 30.0, "noise": 0.038}, ROBOBEV
    ),  # photons: Poisson counts of a white pixel; noise: Gaussian, of 1
    Corruption("Fog", 5, "image", {"fog_and_decay": (3.0, 1.4)}, LIBRARY, library="fog"),
    Corruption("Snow", 4, "image", {"snow": (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65)}, LIBRARY, library="snow"),
    Corruption(
        "Rain",
        5,
        "image",
        {"pixels_per_drop": 400, "drop_length": 80, "drop_grey": 220, "contrast": 0.5},
        DRIVEBENCH,
    ),
    Corruption(
        "WaterSplashCorruption",
        4,
        "frame",
        {"droplets": 40, "radius": (20, 30), "alpha": 0.2, "blur": 31},
        DRIVEBENCH,
    ),  # the front camera and one to five others
    Corruption(
        "LensObstacleCorruption",
        5,
        "frame",
        {"axes": (0.1, 0.5), "centre_sigma": 0.1, "blur": 71},
        DRIVEBENCH,
    ),  # the front camera and one to five others; axes and sigma in shares of width and height
    Corruption("CameraCrash", 4, "run", {"draws": 4}, ROBOBEV),
    Corruption("FrameLost", 4, "frame", {"probability": 4 / 6}, ROBOBEV),
    Corruption("Saturate", 5, "image", {"factor_and_added": (20.0, 0.2)}, LIBRARY, library="saturate", random=False),
    Corruption("MotionBlur", 4, "image", {"radius_and_sigma": (15, 12)}, LIBRARY, library="motion_blur"),
    Corruption("ZoomBlur", 4, "image", {"zoom": "arange(1, 1.26, 0.02)"}, LIBRARY, library="zoom_blur", random=False),
    Corruption("ColorQuant", 4, "image", {"bits": 1}, ROBOBEV, random=False),
    Corruption("H256ABRCompression", 4, "clip", {"bit_rate_divisor": 16}, DRIVEBENCH, random=False),
    Corruption("BitError", 2, "clip", {"amount": 50_000}, DRIVEBENCH),
)
"""In the order of DriveBench's tables. H256 is its own spelling of H.265."""

CORRUPTION_NAMES: tuple[str, ...] = tuple(corruption.name for corruption in CORRUPTIONS)


def corruption_named(name: str) -> Corruption:
    """The corruption of a name as DriveBench spells it, upper or lower case.

    Raises:
        DataError: there is no such corruption; the message names those that come close.
    """
    known = {corruption.name.lower(): corruption for corruption in CORRUPTIONS}
    if name.lower() in known:
        return known[name.lower()]
    close = [known[key].name for key in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)]
    raise DataError(f"there is no corruption {name!r}; did you mean {' or '.join(close or CORRUPTION_NAMES)}?")


def seed_of(seed: int, corruption: str, *place: str) -> int:
    """The seed, of 128 bits, of one image, frame or clip: the same whatever was corrupted before it, and wherever."""
    identity = "\0".join((str(seed), corruption, *place))
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=16).digest(), "little")
