"""Labels: which nodes a process may run on, in Ray's own label selectors. Pure; knows neither Ray nor a recipe.

A recipe says `cluster.judge_label: judge`, or `cluster.judge_label: "autodriverl/gpu=in(A100-80GB,H100-80GB)"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cluster.errors import PlanError

ROLE = "autodriverl/role"
"""The label key that a plain word stands for: `judge` asks for nodes labelled `autodriverl/role: judge`."""

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"(?:{_NAME}/)?{_NAME}")
_LIST = re.compile(rf"(!?)in\(({_NAME}(?:, ?{_NAME})*)\)")
_WORD = re.compile(rf"(!?)({_NAME})")


def selector(label: str) -> dict[str, str]:
    """A recipe's label as Ray's `label_selector` takes it.

    Args:
        label: `value`, or `key=value`; the value is a word, `!word`, `in(word,word)` or `!in(word,word)`.

    Raises:
        PlanError: it is none of these.
    """
    key, equals, value = label.partition("=")
    key, value = (key.strip(), value.strip()) if equals else (ROLE, key.strip())
    if not _KEY.fullmatch(key) or not (_LIST.fullmatch(value) or _WORD.fullmatch(value)):
        raise PlanError(
            f"label {label!r} is no word such as judge, and not of the form key=value, whose value is a word, !word or "
            "in(word,word): mend cluster.learner_label, cluster.rollout_label or cluster.judge_label"
        )
    return {key: value}


def matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels satisfies a selector, as Ray decides it."""
    return all(_satisfied(value, labels.get(key)) for key, value in wanted.items())


def _satisfied(value: str, found: str | None) -> bool:
    listed = _LIST.fullmatch(value)
    negated, words = listed.groups() if listed else _word(value)
    return (found in re.split(", ?", words)) != bool(negated)


def _word(value: str) -> tuple[str, str]:
    plain = _WORD.fullmatch(value)
    return (plain[1], plain[2]) if plain else ("", value)
