"""Where a run comes from: code, packages, machine, data and their licences.

Writes `provenance.json` and `provenance/diff.patch`. No ray, no network; host and user names are left out, because
reports are shared.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from data.formats.format import Licence, format_of
from data.sample import DrivingSample
from evaluation.construction.record import sha256_of
from evaluation.run_record import DIFF_FILE, PROVENANCE_FILE, keep_previous
from recipe import Recipe
from rewards.rubric import FOLDER

OTHER_DATA = (
    "the data are not those that the run began with ({then} questions then, {now} now): it goes on in the order of the "
    "new ones from where it stood, so some of them may be asked twice in this pass and others not before the next"
)
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("actors", "cluster", "commands", "data", "evaluation", "policies", "rewards", "serve")
SOURCES = (*(f"{package}/**/*.py" for package in PACKAGES), "*.py")
GIT_TIMEOUT_S = 30.0


_NAMED = re.compile(r"(?P<module>[A-Za-z_][\w.]*):[A-Za-z_]\w*")
_RUBRIC = "judge/"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CodeOrigin(_Record):
    """Which code ran."""

    commit: str | None
    """Commit hash; None outside a git checkout (a submitted job ships no `.git`)."""
    changed: bool | None
    """Whether tracked files differ from the commit (`provenance/diff.patch`); None outside a git checkout."""
    untracked: tuple[str, ...]
    """Files that git neither tracks nor ignores; named, never copied."""
    source_sha256: str
    """Hash over every Python file of the project: names the code also where there is no git."""


class DataOrigin(_Record):
    """Which data was used."""

    source: str
    samples: int
    scenes: int
    ground_truth_sha256: str
    """Hash over ids, questions, choices, answers and objects of all samples, in order of id."""
    annotations: dict[str, str]
    """Hash of every annotation file that was read, by its path: over its bytes; of a folder, over its files' names and
    bytes. `data.reasoning` is among them."""
    images: int
    images_sha256: str
    """Hash over the sorted names and sizes in bytes of the image files."""
    missing_images: int
    licence: Licence
    """Of annotations and images together, as the format says."""


class Provenance(_Record):
    """Everything needed to say what made a policy."""

    started_at: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    code: CodeOrigin
    data: DataOrigin
    base_model: str
    base_model_revision: str | None
    python: str
    platform: str
    processor: str
    cpus: int
    memory_gib: float
    gpus: tuple[str, ...]
    packages: dict[str, str]
    """Every installed distribution and its version."""
    extensions: dict[str, str]
    """Setting to the hash of the file that it names: your own datasets, rewards, algorithms, engines and rubrics."""


def record_provenance(
    recipe: Recipe, samples: Sequence[DrivingSample], folder: Path, repository: Path = REPOSITORY
) -> Provenance:
    """Collect the provenance of a run over these samples (training and held out together) and write it to its folder.

    An earlier `provenance.json` and diff (of a run that is resumed) are kept beside the new ones.

    Raises:
        DataError: an annotation file, or one that holds an extension, cannot be read.
    """
    code, diff = _code_origin(repository)
    provenance = Provenance(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(sys.argv),
        code=code,
        data=data_origin(recipe, samples),
        base_model=recipe.policy.model,
        base_model_revision=recipe.policy.revision,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cpus=os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
        extensions=extension_hashes(recipe),
        packages={item.metadata["Name"]: item.version for item in metadata.distributions()},
    )
    for name, text in ((PROVENANCE_FILE, provenance.model_dump_json(indent=1)), (DIFF_FILE, diff)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        keep_previous(path)
        path.write_text(text)
    return provenance


def known_provenance(folder: Path) -> Provenance | None:
    """What a run's folder says of where it comes from; None where there is nothing that can be read."""
    try:
        return Provenance.model_validate_json((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def known_data(folder: Path) -> DataOrigin | None:
    """What it says of the run's data; None likewise."""
    known = known_provenance(folder)
    return None if known is None else known.data


def data_origin(recipe: Recipe, samples: Sequence[DrivingSample]) -> DataOrigin:
    """Identify the data by hashes.

    Raises:
        DataError: an annotation file cannot be read.
    """
    source, reasoning = format_of(recipe.data), recipe.data.reasoning
    annotations = [*source.files().values(), *([] if reasoning is None else [reasoning])]
    images = {path for sample in samples for path in sample.images.values()}
    found = [path for path in map(Path, images) if path.is_file()]
    return DataOrigin(
        source=recipe.data.source,
        samples=len(samples),
        scenes=len({sample.scene_id for sample in samples}),
        ground_truth_sha256=_sha256(json.dumps(_ground_truth(sample)) for sample in _by_id(samples)),
        annotations={str(path): sha256_of(path) for path in annotations},
        images=len(images),
        images_sha256=_sha256(sorted(f"{path.name} {path.stat().st_size}" for path in found)),
        missing_images=len(images) - len(found),
        licence=source.licence,
    )


def _code_origin(repository: Path) -> tuple[CodeOrigin, str]:
    """The code's identity, and its difference from the commit (empty without a git checkout)."""
    sources = sorted(path for pattern in SOURCES for path in repository.glob(pattern))
    source_sha256 = _sha256(f"{path.relative_to(repository)} {sha256_of(path)}" for path in sources)
    # Not every folder below some git checkout is part of it: an installed copy in an ignored .venv is not.
    if not (_git(repository, "ls-files", "--", ".") or ""):
        return CodeOrigin(commit=None, changed=None, untracked=(), source_sha256=source_sha256), ""
    diff = _git(repository, "diff", "--binary", "HEAD", "--", ".") or ""
    untracked = (_git(repository, "ls-files", "--others", "--exclude-standard", "--", ".") or "").splitlines()
    commit = (_git(repository, "rev-parse", "HEAD") or "").strip() or None
    return CodeOrigin(commit=commit, changed=bool(diff), untracked=tuple(untracked), source_sha256=source_sha256), diff


def _git(repository: Path, *arguments: str) -> str | None:
    """The output of a git command; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _by_id(samples: Sequence[DrivingSample]) -> Iterator[DrivingSample]:
    ids = [sample.id for sample in samples]
    return (samples[index] for index in sorted(range(len(ids)), key=ids.__getitem__))


def _ground_truth(sample: DrivingSample) -> list[object]:
    objects = [asdict(item) for item in sample.objects]
    words = (sample.id, sample.scene_id, sample.frame_id, sample.task, sample.kind, sample.question, sample.answer)
    return [*words, sample.choices, objects, *([sample.reasoning] if sample.reasoning else [])]


def _sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def extension_hashes(recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of every file that holds such a thing, by the setting that names it.

    A setting whose value only looks like `module:name` is left out: no module has that name. With a judge the rubrics
    that are built in are there too, each by its path in the project.

    Raises:
        DataError: a file cannot be read.
    """
    found = {setting: sha256_of(file) for setting, file in _files(recipe.model_dump(mode="json"))}
    if recipe.reward.judge is not None:
        found |= {f"rewards/rubrics/{path.name}": sha256_of(path) for path in sorted(FOLDER.glob("*.md"))}
    return found


def _files(tree: Any, setting: str = "") -> Iterator[tuple[str, Path]]:
    """Every file that a tree of settings names, in its values or its keys (scorers, benchmarks)."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            here = f"{setting}.{key}".removeprefix(".")
            yield from _named(key, here)
            yield from _files(value, here)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _files(value, f"{setting}.{index}")
    elif isinstance(tree, str):
        yield from _named(tree, setting)


def _named(text: str, setting: str) -> Iterator[tuple[str, Path]]:
    if text.startswith(_RUBRIC) and text.endswith(".md"):
        yield setting, Path(text.removeprefix(_RUBRIC))
    elif found := _NAMED.fullmatch(text):
        file = _file_of_module(found["module"])
        if file is not None:
            yield setting, file


def _file_of_module(name: str) -> Path | None:
    """The file that a module is read from, where there is such a module and it has one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a package above it is missing, or is no package
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
