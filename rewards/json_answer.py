"""The one JSON object that a response is, or holds. Pure text.

The rule: read is the answer part (after `</think>`, inside `<answer>`), from its first `{` to its last `}`. That span
must be one JSON object. It stands alone when nothing but white space, or one Markdown code fence, is around it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rewards.answer import answer_part

_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL | re.IGNORECASE)


def json_answer(text: str) -> tuple[dict[str, Any], bool] | None:
    """The object in a response and whether it stands alone, or None when there is not exactly one.

    Two objects, a key written twice at any depth, NaN and Infinity, and nesting too deep to read are no object.
    """
    answer = answer_part(text)
    start, end = answer.find("{"), answer.rfind("}")
    if not 0 <= start < end:
        return None
    span = answer[start : end + 1]
    try:
        found = _DECODER.decode(span)
    except (ValueError, RecursionError):  # ValueError also covers JSONDecodeError
        return None
    fenced = _FENCE.fullmatch(answer)
    return found, answer == span or (fenced is not None and fenced[1].strip() == span)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is written twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
