"""Answers by id and value, for the tests of what two runs differ in."""

from __future__ import annotations

from typing import Any

from evaluation.held_out import AnswerRecord
from tests.suite_runs import answer


def answered(sample_id: str, value: float, images: dict[str, str] | None = None, **changes: Any) -> AnswerRecord:
    """An answer to a planning question; each id is in a scene of its own."""
    plain: dict[str, Any] = {"task": "planning", "scene_id": f"scene of {sample_id}"}
    return answer(images or {}, **plain | {"sample_id": sample_id, "value": value} | changes)
