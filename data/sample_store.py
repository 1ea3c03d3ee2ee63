"""Samples that lie on disk: a sequence that reads each of them where it is asked for, so that a training set costs no
memory in the process that draws from it.

Samples and index are in files without a name, which the operating system removes with the process. No torch, no ray.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from data.sample import DrivingSample

_VALUES = attrgetter(*(field.name for field in fields(DrivingSample)))
"""A sample's values in the order of its fields: written faster than the sample itself."""
_BLOCK = 1024
"""Samples that are read at once where all are read in turn."""


@dataclass(frozen=True)
class _Files:
    """The samples that were written together, and what is known of each without reading it."""

    content: IO[bytes]
    ends: NDArray[Any]
    """Where each sample ends in `content`; the first entry is 0."""
    hashes: NDArray[Any]
    """Of each sample's id."""
    tasks: NDArray[Any]
    scenes: NDArray[Any]
    """Positions in the names below."""
    task_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    apart: NDArray[Any]
    """Python's hashes of each sample's scene, frame and images, one after the other."""
    apart_of: NDArray[Any]
    """Whose each of them is."""

    def read(self, row: int) -> DrivingSample:
        begin, end = int(self.ends[row]), int(self.ends[row + 1])
        return DrivingSample(*pickle.loads(os.pread(self.content.fileno(), end - begin, begin)))


class StoredSamples(Sequence[DrivingSample]):
    """Some of the samples that were written together, in an order of their own."""

    def __init__(self, files: _Files, rows: NDArray[Any]) -> None:
        """Use `stored` and `chosen` instead."""
        self._files, self.rows = files, rows

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> DrivingSample: ...
    @overload
    def __getitem__(self, index: slice) -> StoredSamples: ...
    def __getitem__(self, index: int | slice) -> DrivingSample | StoredSamples:
        """One sample, read from disk; or some of them, which are not read."""
        if isinstance(index, slice):
            return StoredSamples(self._files, self.rows[index])
        return self._files.read(int(self.rows[index]))

    def __iter__(self) -> Iterator[DrivingSample]:
        """Read one after the other."""
        for begin in range(0, len(self), _BLOCK):
            yield from map(self._files.read, self.rows[begin : begin + _BLOCK].tolist())

    def __eq__(self, other: object) -> bool:
        """Whether it holds the same samples as another sequence, in the same order."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def tasks(self) -> Iterator[str]:
        """The task of each, without reading it."""
        return (self._files.task_names[task] for task in self._files.tasks[self.rows])

    @property
    def scenes(self) -> Iterator[str]:
        """The scene of each, without reading it."""
        return (self._files.scene_names[scene] for scene in self._files.scenes[self.rows])

    def may_share(self, other: StoredSamples) -> bool:
        """Whether a scene, frame or image of one of these may be one of the other's; no is certain. Reads no sample."""
        return self._files is not other._files or bool(np.isin(self._hashed(), other._hashed()).any())

    def _hashed(self) -> NDArray[Any]:
        files = self._files
        own = np.zeros(len(files.hashes), dtype=bool)
        own[self.rows] = True
        return np.unique(files.apart[own[files.apart_of]])

    def find(self, id: str) -> DrivingSample | None:
        """The sample of an id."""
        found = np.flatnonzero(self._files.hashes[self.rows] == _hash(id))
        return next((sample for index in found if (sample := self[int(index)]).id == id), None)


class ById(Mapping[str, DrivingSample]):
    """Samples by their id; those on disk are looked for there."""

    def __init__(self, samples: Sequence[DrivingSample]) -> None:
        """Of samples whose ids differ."""
        self._samples = samples if isinstance(samples, StoredSamples) else {sample.id: sample for sample in samples}

    def __getitem__(self, id: str) -> DrivingSample:
        """The sample of an id."""
        found = self._samples.find(id) if isinstance(self._samples, StoredSamples) else self._samples.get(id)
        if found is None:
            raise KeyError(id)
        return found

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        held = self._samples
        return (sample.id for sample in held) if isinstance(held, StoredSamples) else iter(held)

    def __len__(self) -> int:
        """How many."""
        return len(self._samples)


class Joined(Sequence[DrivingSample]):
    """Two sequences as one, neither of which is read."""

    def __init__(self, first: Sequence[DrivingSample], second: Sequence[DrivingSample]) -> None:
        """The second after the first."""
        self._first, self._second = first, second

    def __len__(self) -> int:
        """How many in both."""
        return len(self._first) + len(self._second)

    @overload
    def __getitem__(self, index: int) -> DrivingSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DrivingSample]: ...
    def __getitem__(self, index: int | slice) -> DrivingSample | Sequence[DrivingSample]:
        """One sample, or some of them as a list."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self._first[index] if index < len(self._first) else self._second[index - len(self._first)]

    def __iter__(self) -> Iterator[DrivingSample]:
        """The first, then the second."""
        yield from self._first
        yield from self._second


def stored(samples: Iterable[DrivingSample]) -> StoredSamples:
    """Samples on disk, written as they come; the folder for temporary files (`TMPDIR`) must have room for them."""
    content = tempfile.TemporaryFile(prefix="samples-")  # noqa: SIM115 (open as long as the samples are)
    indexes = [tempfile.TemporaryFile(prefix="index-") for _ in range(6)]  # noqa: SIM115
    ends, hashes, tasks, scenes, apart, apart_of = indexes
    task_names, scene_names = dict[str, int](), dict[str, int]()
    end, count = 0, 0
    ends.write(np.uint64(0).tobytes())
    for sample in samples:
        written = pickle.dumps(_VALUES(sample), protocol=5)
        content.write(written)
        names = [hash(name) for name in (sample.scene_id, sample.frame_id, *sample.images.values())]
        apart.write(array("q", names).tobytes())
        apart_of.write(array("I", [count] * len(names)).tobytes())
        end, count = end + len(written), count + 1
        ends.write(end.to_bytes(8, sys.byteorder))
        hashes.write(_digest(sample.id))
        tasks.write(task_names.setdefault(sample.task, len(task_names)).to_bytes(2, sys.byteorder))
        scenes.write(scene_names.setdefault(sample.scene_id, len(scene_names)).to_bytes(4, sys.byteorder))
    content.flush()
    files = _Files(
        content,
        _mapped(ends, np.uint64),
        _mapped(hashes, np.uint64),
        _mapped(tasks, np.uint16),
        _mapped(scenes, np.uint32),
        tuple(task_names),
        tuple(scene_names),
        _mapped(apart, np.int64),
        _mapped(apart_of, np.uint32),
    )
    return StoredSamples(files, _on_disk(np.arange(count, dtype=np.uint32)))


def chosen(samples: Sequence[DrivingSample], indices: Iterable[int]) -> Sequence[DrivingSample]:
    """Some of the samples, in the order of `indices`; those on disk stay there."""
    if isinstance(samples, StoredSamples):
        return StoredSamples(samples._files, _on_disk(samples.rows[np.fromiter(indices, dtype=np.int64)]))
    return tuple(samples[index] for index in indices)


def tasks_of(samples: Sequence[DrivingSample]) -> Iterator[str]:
    """The task of each sample; those on disk are not read for it."""
    return samples.tasks if isinstance(samples, StoredSamples) else (sample.task for sample in samples)


def scenes_of(samples: Sequence[DrivingSample]) -> Iterator[str]:
    """The scene of each sample; those on disk are not read for it."""
    return samples.scenes if isinstance(samples, StoredSamples) else (sample.scene_id for sample in samples)


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=8).digest()


def _hash(id: str) -> np.uint64:
    return np.uint64(int.from_bytes(_digest(id), sys.byteorder))


def _mapped(file: Any, kind: Any) -> NDArray[Any]:
    """What a file holds, as an array that stays on disk; the map keeps the file."""
    file.flush()
    empty = os.fstat(file.fileno()).st_size == 0
    return np.zeros(0, dtype=kind) if empty else np.memmap(file, dtype=kind, mode="r")


def _on_disk(array: NDArray[Any]) -> NDArray[Any]:
    file = tempfile.TemporaryFile(prefix="rows-")  # noqa: SIM115
    file.write(array.tobytes())
    return _mapped(file, array.dtype)
