"""Reading pixel coordinates out of driving text: object tags, bracketed lists and bare decimals. Pure text.

DriveLM writes `<c1,CAM_BACK,1088.3,497.5>` for an object's centre and `(traffic light, green, x1, y1, x2, y2)` for a
box. How two sets of coordinates are compared is a matter of `rewards`.
"""

from __future__ import annotations

import re

from data.sample import IMAGE_HEIGHT, IMAGE_WIDTH, CoordinateUnit

Pair = tuple[float, float]
"""x and y in pixels of the 1600x900 frame."""

_GROUP = r"<[^<>]*>|\([^()<>\[\]]*\)|\[[^()<>\[\]]*\]"
_DECIMAL = r"(?<![\w.])-?\d+\.\d+(?![\w]|\.\d)"
_PLACE = re.compile(f"(?P<group>{_GROUP})|(?P<decimal>{_DECIMAL})")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SIGN = re.compile(r"[<(\[]|\d\.\d")
"""Every group and every decimal has one: looked for first, since it is found, or missed, far sooner."""


def coordinate_pairs(text: str) -> list[Pair]:
    """The (x, y) pairs in a text, in the order in which they stand.

    Inside `<...>`, `(...)` and `[...]` every comma-separated field that is a number counts, whole numbers too, and
    the numbers of one group pair up among themselves. Outside, only decimals count ("3 cars" is no coordinate), and
    they pair up in reading order. A number left without a partner is dropped.
    """
    if not has_places(text):
        return []
    pairs: list[Pair] = []
    waiting: float | None = None
    for place in _PLACE.finditer(text):
        if place["group"] is not None:
            numbers = [float(field) for field in _fields(place["group"]) if _NUMBER.fullmatch(field)]
            pairs += zip(numbers[::2], numbers[1::2], strict=False)
        elif waiting is None:
            waiting = float(place["decimal"])
        else:
            pairs.append((waiting, float(place["decimal"])))
            waiting = None
    return pairs


def has_places(text: str) -> bool:
    """Whether a text may hold coordinates: most have none, and need not be searched for them."""
    return _SIGN.search(text) is not None


def odd_groups(text: str) -> list[str]:
    """The object tags, lists and boxes that hold an odd count of numbers, so that one has no partner.

    A group of one number alone, "(3.5)", is no coordinate.
    """
    if not has_places(text):
        return []
    groups = [place["group"] for place in _PLACE.finditer(text) if place["group"] is not None]
    return [
        group
        for group in groups
        if len(_fields(group)) > 1 and sum(bool(_NUMBER.fullmatch(field)) for field in _fields(group)) % 2
    ]


def without_coordinates(text: str) -> str:
    """The words of a text: object tags are taken out whole, other groups lose their numbers, decimals go."""
    return " ".join(_PLACE.sub(_words_of, text).split())


def outside_image(pair: Pair, unit: CoordinateUnit = "pixels") -> bool:
    """Whether a point lies outside the image; metres on the ground never do."""
    if unit == "metres":
        return False
    width, height = (IMAGE_WIDTH, IMAGE_HEIGHT) if unit == "pixels" else (1, 1)
    x, y = pair
    return not (0 <= x <= width and 0 <= y <= height)


def _fields(group: str) -> list[str]:
    return [field.strip() for field in group[1:-1].split(",")]


def _words_of(place: re.Match[str]) -> str:
    group = place["group"]
    if group is None or group.startswith("<"):
        return " "
    words = [field for field in _fields(group) if field and not _NUMBER.fullmatch(field)]
    return f"{group[0]}{', '.join(words)}{group[-1]}" if words else " "
