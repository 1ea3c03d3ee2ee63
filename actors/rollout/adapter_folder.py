"""`AdapterFolder`: an adapter as it is given to an engine. Neither its number nor its files ever change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter in PEFT's layout."""

    number: int
    """Its own in the whole service, above 0: engines keep adapters by it."""
    folder: str
