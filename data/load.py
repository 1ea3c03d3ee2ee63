"""From a recipe's data settings to driving samples: draws or loads them, and splits them by scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.faults import Faults, collected
from data.formats import read_source
from data.questions import driving_text
from data.rendered import FORMAT, rendered_samples
from data.settings import DataSettings
from data.split import Split, split_by_scene


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The samples of a run and what was left out of them."""

    split: Split
    faults: dict[str, list[str]]
    """Reason to ids of faulty entries (dropped, or kept with a fault worth knowing)."""
    corpus: tuple[str, ...]
    """Driving text that the tiny policy's tokenizer is trained on."""


def load_data(settings: DataSettings, cache: Path) -> LoadedData:
    """Load and split the samples.

    Args:
        settings: which samples.
        cache: folder for rendered scenes, and for images that come inside annotation files; made once and reused.

    Raises:
        DataError: a path is not given, a file or folder is missing or broken, or too little is left to split; with
            `data.strict` also the first faulty entry.
    """
    if settings.source == "rendered":
        folder = cache / f"rendered-{settings.scenes}-{settings.seed}-v{FORMAT}"
        samples = tuple(rendered_samples(folder, settings.scenes, settings.seed))
        return LoadedData(split_by_scene(samples, settings.held_out, settings.seed), {}, tuple(driving_text()))
    faults = Faults(settings.strict)
    found = read_source(settings, cache, faults)
    loaded = collected(settings.annotations or Path(), settings.source, found, faults)
    split = split_by_scene(loaded.samples, settings.held_out, settings.seed)
    corpus = tuple(text for sample in split.train for text in (sample.question, sample.answer))
    return LoadedData(split, faults.as_dict(), corpus)
