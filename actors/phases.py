"""How long each phase of a run took: told as it ends, kept in `phases.json`."""

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
        """Keep the times in `folder`."""
        self._path = folder / FILE
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase; one that fails is not kept."""
        began = time.time()
        yield
        self.seconds[name] = time.time() - began
        self._path.write_text(json.dumps(self.seconds, indent=1))
        print(f"{name.replace('_', ' ')}: {self.seconds[name]:.0f} s", flush=True)
