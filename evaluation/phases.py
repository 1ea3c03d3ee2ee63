"""How long each phase of a run took, over all its sessions: printed as it ends, kept in `phases.json`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "phases.json"


class Phases:
    """A stopwatch for the phases of one run, in seconds."""

    def __init__(self, folder: Path) -> None:
        """Keep the times in `folder`, beside those of the sessions before this one."""
        self._path = folder / FILE
        self.seconds: dict[str, float] = json.loads(self._path.read_text()) if self._path.is_file() else {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase; one that fails is not kept."""
        began = time.time()
        yield
        took = time.time() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.seconds, indent=1))
        part.replace(self._path)  # whole or not at all: the next session reads it
        print(f"{name.replace('_', ' ')}: {took:.0f} s", flush=True)
