"""The answer inside a response, where a policy thinks first: `<think>...</think><answer>...</answer>`. Pure text."""

from __future__ import annotations

import re

from data.reasoning.reasoning import split_solution

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
_THINK_END = re.compile(r"</think>", re.IGNORECASE)
_THINK_START = re.compile(r"<think>", re.IGNORECASE)


def answer_part(text: str) -> str:
    """What rules and metrics read of a response.

    The last `<answer>` block (closed or running to the end); without one, what follows the last `</think>`; a
    `<think>` that is never closed leaves only what stood before it, usually nothing; else what stands under the last
    heading "Final Answer" (DriveLMM-o1), or the whole text.
    """
    if "<" in text:
        tagged = _TAGGED.findall(text)
        if tagged:
            return str(tagged[-1]).strip()
        text = _THINK_START.split(_THINK_END.split(text)[-1])[0]
    _, final = split_solution(text)
    return final
