"""`Finding`: one line of the doctor's checklist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the checklist; `advice` says what to do and is empty only when nothing needs doing."""

    name: str
    state: State
    found: str
    advice: str = ""
