"""A weight transport of one's own, from the protocol alone: through files of a folder that all members see."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from actors.sync.transport import Bucket, Meeting, packed, unpacked
from failures import EngineError
from recipe import Recipe

POLL_S = 0.01


class FileSettings(BaseModel):
    """`sync.options` of this transport."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    folder: str
    """A folder that the learner and the engine see."""


class FileTransport:
    """A `WeightTransport`: each bucket is written once and read by every receiver."""

    Settings = FileSettings

    @staticmethod
    def refusal(recipe: Recipe) -> str | None:
        """Files are seen by one node, so it serves one engine there."""
        return "one engine on the learner's node" if recipe.rollout.engines > 1 else None

    def __init__(self, meeting: Meeting, member: int) -> None:
        options = FileSettings.model_validate(meeting.options)
        self._folder, self._timeout_s = Path(options.folder, f"{meeting.port}"), meeting.timeout_s
        self._sent = 0
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"member-{member}").touch()
        for other in range(meeting.members):
            self._wait_for(self._folder / f"member-{other}")

    def send(self, tensors: Sequence[Tensor], dtype: str) -> None:
        """Write the next bucket."""
        self._write(packed(tensors, dtype))

    def receive(self, bucket: Bucket) -> list[Tensor]:
        """Read the next bucket, as soon as its file is whole."""
        path = self._next()
        self._wait_for(path)
        buffer = torch.from_file(str(path), size=sum(bucket.sizes), dtype=getattr(torch, bucket.dtype))
        return unpacked(buffer, bucket)

    def abandon(self) -> None:
        """Nothing waits here; a file says to those that wait for the next bucket that there is none."""
        (self._folder / "abandoned").touch()

    def _write(self, buffer: Tensor) -> None:
        path = self._next()
        beside = path.with_suffix(".partial")
        beside.write_bytes(buffer.view(torch.uint8).numpy().data)
        os.rename(beside, path)

    def _next(self) -> Path:
        self._sent += 1
        return self._folder / f"bucket-{self._sent}"

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not path.exists():
            if (self._folder / "abandoned").exists():
                raise EngineError(f"{path} will not come: sending was abandoned")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not appear within {self._timeout_s:g} s")
            time.sleep(POLL_S)
