"""From a recipe's data settings to driving samples: draws or loads them, and splits them by scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from data.cascade import HEADING, cascaded
from data.errors import DataError
from data.faults import Faults, collected
from data.formats.format import format_of
from data.lidar import without_faulty_sweeps
from data.reasoning.reasoning import read_reasoning, with_reasoning
from data.sample import LIDAR
from data.sample_store import stored
from data.settings import DataSettings
from data.split import Split, split_by_scene
from data.uris import allow


class Corpus(Sequence[str]):
    """Driving text that is put together where it is read, and not kept: of most policies nobody asks for it."""

    def __init__(self, texts: Callable[[], Sequence[str]]) -> None:
        """What `texts` gives, each time."""
        self._texts = texts

    def __len__(self) -> int:
        """How many texts."""
        return len(self._texts())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """One text, or some of them."""
        return self._texts()[index]

    def __iter__(self) -> Iterator[str]:
        """One after the other."""
        return iter(self._texts())


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The samples of a run and what was left out of them."""

    split: Split
    faults: dict[str, list[str]]
    """Reason to ids of faulty entries (dropped, or kept with a fault worth knowing)."""
    corpus: Sequence[str]
    """Driving text that the tiny policy's tokenizer is trained on."""


def load_data(settings: DataSettings, cache: Path) -> LoadedData:
    """Load and split the samples.

    Args:
        settings: which samples.
        cache: folder for rendered scenes, and for images that come inside annotation files; made once and reused.

    Raises:
        ExtensionError: the source or an option is unknown, or a value does not fit.
        DataError: an option is absent, a file or folder is missing or broken, or too little is left to split; with
            `data.strict` also the first faulty entry.
    """
    allow(settings)
    loaded = _load(settings, cache)
    loaded = loaded if settings.reasoning is None else _reasoned(loaded, settings.reasoning)
    return _cascaded(loaded) if settings.cascade else loaded


def with_checked_sweeps(loaded: LoadedData) -> LoadedData:
    """The same samples, those with a LiDAR sweep that cannot be used without it; for a policy that is shown sweeps.

    Raises:
        DataError: not one sample has a usable sweep.
    """
    train, of_train = without_faulty_sweeps(loaded.split.train)
    held_out, of_held_out = without_faulty_sweeps(loaded.split.held_out)
    if not any(LIDAR in sample.images for sample in (*train, *held_out)):
        raise DataError(
            f"policy.lidar: none of the {len(train) + len(held_out)} samples has a usable LiDAR sweep (image {LIDAR}); "
            "set policy.lidar=false, or use data that bring sweeps"
        )
    faulty = {reason: of_train.get(reason, []) + of_held_out.get(reason, []) for reason in of_train | of_held_out}
    return replace(loaded, split=Split(stored(train), stored(held_out)), faults=loaded.faults | faulty)


def _reasoned(loaded: LoadedData, path: Path) -> LoadedData:
    """Reasoning for what is trained on; what is held out stays as it is."""
    train, faults = with_reasoning(loaded.split.train, read_reasoning(path))
    return replace(loaded, split=replace(loaded.split, train=stored(train)), faults=loaded.faults | faults)


def _cascaded(loaded: LoadedData) -> LoadedData:
    """Training questions in the context of earlier tasks' true answers; a measurement brings its own."""
    train = stored(cascaded(loaded.split.train))
    corpus = Corpus(lambda: (*loaded.corpus, HEADING))
    return replace(loaded, split=replace(loaded.split, train=train), corpus=corpus)


def _load(settings: DataSettings, cache: Path) -> LoadedData:
    source, faults = format_of(settings), Faults(settings.strict)
    file = next(iter(source.files().values()), Path(settings.source))
    loaded = collected(file, source.read(faults, cache, settings.seed), faults, stored)
    split = split_by_scene(loaded.samples, settings.held_out, settings.seed)
    return LoadedData(split, faults.as_dict(), Corpus(lambda: source.corpus(split.train)))
