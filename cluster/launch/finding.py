"""What a check of a launch file finds: one sentence with its place. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from pydantic import BaseModel, ValidationError

from extension import explain


@dataclass
class Findings:
    """The faults of one launch file, and what its user must still fill in."""

    file: str
    faults: list[str] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    kind: str | None = None
    """Whose credentials it needs (`cluster.launch.ready`)."""

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
            for said in _reasons(error, model):
                self.add(place, said)
            return None


def _reasons(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A sentence for each fault; a key that is missing because it is misspelt is named once, with its misspelling."""
    found = error.errors(include_url=False)
    extra = [one for one in found if one["type"] == "extra_forbidden"]
    misspelt = {one["loc"]: explain(one, model) for one in extra}
    hints = " ".join(misspelt.values())
    reported = [
        one
        for one in found
        if one["type"] == "missing"
        and any(loc[:-1] == one["loc"][:-1] for loc in misspelt)
        and f"did you mean {one['loc'][-1]}?" in hints
    ]
    return [explain(one, model) for one in found if one not in reported]


def schema_reason(error: jsonschema.ValidationError) -> str:
    """What a JSON schema has against a value; for keys that it does not know, the nearest ones."""
    if error.validator != "additionalProperties" or not isinstance(error.instance, dict):
        return str(error.message)
    schema: Any = error.schema
    known = schema.get("properties", {})
    return "; ".join(unknown(name, known) for name in error.instance if name not in known)


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a key or value that does not exist."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"{name} does not exist" + (f"; did you mean {close[0]}?" if close else "")
