"""`SuiteResult`: what every benchmark's result has. Pure data; no torch, no ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a suite's own result adds its figures to.

    `scored` counts the questions behind the figures, `faults` lists the ids of those left out or odd by their reason.
    """

    scored: int
    faults: dict[str, list[str]]

    def to_json(self) -> str:
        """The result as one line of JSON; what has no value is null."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)
