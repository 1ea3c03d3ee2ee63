"""What a check of a launch file finds: one sentence with its place. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError


@dataclass
class Findings:
    """The faults of one launch file, and what its user must still fill in."""

    file: str
    faults: list[str] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)

    def add(self, place: str, sentence: str) -> None:
        """Note a fault; `place` is the dotted path of a key."""
        self.faults.append(f"{self.file}: {place}: {sentence}")

    def refuse_unknown(self, place: str, found: Mapping[str, Any], known: Iterable[str]) -> None:
        """Note every key that is not known, with the nearest one."""
        known = list(known)
        for name in found.keys() - set(known):
            self.add(place, unknown(name, known))

    def take(self, place: str, model: type[BaseModel], value: Any) -> Any:
        """The value as its model, or None where it does not fit; each reason is noted."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                where = ".".join([place, *map(str, one["loc"])])
                self.add(where, "no such key" if one["type"] == "extra_forbidden" else one["msg"])
            return None


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a key or value that does not exist."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"{name} does not exist" + (f"; did you mean {close[0]}?" if close else "")
