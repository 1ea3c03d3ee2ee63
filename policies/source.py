"""Where a run's first weights come from: a checkpoint folder, a hub name, or the tiny policy built on the spot."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from policies.folder import INDEX_FILE, refuse_pickled
from policies.heads.files import Heads, check_same, heads_in, heads_of
from policies.settings import TINY, PolicySettings, TinySettings

BUILD_TIMEOUT_S = 600.0
"""Longest wait for another run that builds the same tiny model, which takes seconds."""


def check_source(settings: PolicySettings) -> None:
    """Find a model that cannot be a policy before anything is loaded or started.

    Raises:
        PolicyError: says what is missing; the tiny policy lacks nothing.
    """
    if settings.model != TINY:
        from policies.model import check_checkpoint  # here, like what builds a model below: it brings torch

        check_checkpoint(_location(settings), settings)


def policy_source(settings: PolicySettings, cache: Path, seed: int, corpus: Sequence[str]) -> str:
    """A folder or hub name that `load_policy` and the engines take.

    The tiny policy is built under `cache`, once per seed, shape and corpus: the text its tokenizer is trained on.
    """
    source = _without_heads(settings, cache, seed, corpus)
    if settings.model == TINY:
        from policies.tiny import build_tiny_policy

        _built(Path(source), lambda beside: build_tiny_policy(beside, seed, corpus, settings.tiny))
    grown = policy_folder(settings, cache, seed, corpus)
    if grown == source or settings.heads is None:
        return source
    from policies.heads.growth import grow

    start, wanted = settings.heads, _heads(settings, source)
    return _built(Path(grown), lambda beside: grow(source, beside, settings, wanted, start))


def policy_folder(settings: PolicySettings, cache: Path, seed: int, corpus: Sequence[str]) -> str:
    """What `policy_source` returns, without building it: known before torch is imported.

    A model with driving tokens that it has not learnt yet is grown under `cache`, once for each set of them.

    Raises:
        PolicyError: `policy.heads` names no such file, or other tokens than the model learnt.
    """
    source = _without_heads(settings, cache, seed, corpus)
    if settings.heads is None or _knows(settings, source):
        return source
    revision = () if settings.revision is None else (settings.revision,)
    named = _hash((source, *revision, settings.dtype, settings.heads.start, _heads(settings, source).hash))
    return str(cache.resolve() / f"{Path(source).name}-heads-{named}")


def _heads(settings: PolicySettings, source: str) -> Heads:
    """The tokens that a recipe adds.

    Raises:
        PolicyError: as `policy_folder`.
    """
    there = heads_in(Path(source))
    wanted = heads_of(settings.heads, there)
    check_same(source, there, wanted)
    return wanted


def _knows(settings: PolicySettings, source: str) -> bool:
    """Whether the model has all those tokens already."""
    there, wanted = heads_in(Path(source)), _heads(settings, source)
    pairs = ((there.bins, wanted.bins), (there.book, wanted.book))
    return all(asked is None or known is not None for known, asked in pairs)


def _without_heads(settings: PolicySettings, cache: Path, seed: int, corpus: Sequence[str]) -> str:
    if settings.model != TINY:
        return _location(settings)
    shape = () if settings.tiny == TinySettings() else (settings.tiny.model_dump_json(),)
    return str(cache.resolve() / f"tiny-policy-{seed}-{_hash((*corpus, *shape))}")


def judge_source(model: str, cache: Path, corpus: Sequence[str]) -> str:
    """A folder or hub name that vLLM takes for a judge. `tiny` is built under `cache`, once per corpus.

    Raises:
        PolicyError: the folder's weights are pickled.
    """
    if model != TINY:
        path = Path(model).expanduser()
        if not path.is_dir():
            return model
        refuse_pickled(path, "reward.judge.model")
        return str(path.resolve())
    from policies.tiny_judge import build_tiny_judge

    folder = cache.resolve() / f"tiny-judge-{_hash(corpus)}"
    return _built(folder, lambda beside: build_tiny_judge(beside, corpus))


def _built(folder: Path, build: Callable[[Path], object]) -> str:
    """A folder that a model is built in once, whole or not at all; of two runs that want it, one waits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=BUILD_TIMEOUT_S):
        if not any((folder / name).is_file() for name in ("model.safetensors", INDEX_FILE)):
            beside = folder.with_name(f"{folder.name}.partial")
            for leftover in (beside, folder):
                shutil.rmtree(leftover, ignore_errors=True)
            build(beside)
            beside.rename(folder)
    return str(folder)


def _hash(corpus: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(corpus).encode()).hexdigest()[:12]


def _location(settings: PolicySettings) -> str:
    path = Path(settings.model).expanduser()
    return str(path.resolve()) if path.is_dir() else settings.model
