"""The words of driving tokens, and how an answer that is made of them is read back.

A waypoint is two words, `<traj_x_017><traj_y_244>`; a motion is one, `<act_0421>`. What cannot be read has one name for
the counts and one sentence for a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

POINT = ("traj_x", "traj_y")
ACTION = "act"
_TOKEN = re.compile(r"<(traj_x|traj_y|act)_(\d+)>")

Reason = Literal["no_tokens", "cut_off", "out_of_order", "unknown_token", "text_beside_tokens"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is no plan."""

    reason: Reason
    """What it is counted under."""
    sentence: str


def x_word(index: int) -> str:
    """The token of a bin across."""
    return f"<traj_x_{index:03d}>"


def y_word(index: int) -> str:
    """The token of a bin ahead."""
    return f"<traj_y_{index:03d}>"


def action_word(index: int) -> str:
    """The token of a motion."""
    return f"<act_{index:04d}>"


def has_tokens(text: str) -> bool:
    """Whether a text holds a driving token."""
    return _TOKEN.search(text) is not None


def read_pairs(text: str, points: int, bins: int) -> list[tuple[int, int]] | Unreadable:
    """The bins (x, y) of a trajectory's points.

    Args:
        text: an answer; white space between tokens says nothing, any other text makes it unreadable.
        points: how many there must be.
        bins: how many there are for each axis.
    """
    found = _read(text)
    if isinstance(found, Unreadable):
        return found
    if any(kind == ACTION for kind, _ in found):
        return Unreadable("unknown_token", "it holds an action token where a trajectory is due")
    if outside := [index for _, index in found if index >= bins]:
        return Unreadable("unknown_token", f"it names bin {outside[0]}, and there are {bins}")
    if any(kind != POINT[place % 2] for place, (kind, _) in enumerate(found)):
        return Unreadable("out_of_order", "its tokens do not take turns, x before y")
    if len(found) < 2 * points:
        return Unreadable("cut_off", f"it is cut off after {len(found)} of {2 * points} tokens")
    if len(found) > 2 * points:
        return Unreadable("out_of_order", f"it has {len(found)} tokens, and a trajectory of {points} points has half")
    indices = [index for _, index in found]
    return list(zip(indices[::2], indices[1::2], strict=True))


def read_action(text: str, codes: int) -> int | Unreadable:
    """The one motion that an answer names; thinking may come before it.

    Args:
        text: an answer. Of several motions the last counts, as with words.
        codes: how many there are.
    """
    found = [(kind, int(index)) for kind, index in _TOKEN.findall(text)]
    if not found:
        return Unreadable("no_tokens", f"it holds no driving token: {text[:60]!r}")
    kind, index = found[-1]
    if kind != ACTION:
        return Unreadable("unknown_token", "it ends with a token of a trajectory where a motion is due")
    if index >= codes:
        return Unreadable("unknown_token", f"it names motion {index}, and the codebook has {codes}")
    return index


def _read(text: str) -> list[tuple[str, int]] | Unreadable:
    found = [(kind, int(index)) for kind, index in _TOKEN.findall(text)]
    if not found:
        return Unreadable("no_tokens", f"it holds no driving token: {text[:60]!r}")
    if rest := _TOKEN.sub("", text).split():
        return Unreadable("text_beside_tokens", f"it holds text beside its tokens: {rest[0][:40]!r}")
    return found
