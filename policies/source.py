"""Where a run's first weights come from: a checkpoint folder, a hub name, or the tiny policy built on the spot."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from policies.folder import refuse_pickled
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
    source = policy_folder(settings, cache, seed, corpus)
    if settings.model != TINY:
        return source
    from policies.tiny import build_tiny_policy

    return _built(Path(source), lambda beside: build_tiny_policy(beside, seed, corpus, settings.tiny))


def policy_folder(settings: PolicySettings, cache: Path, seed: int, corpus: Sequence[str]) -> str:
    """What `policy_source` returns, without building it: known before torch is imported."""
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
        if not (folder / "model.safetensors").is_file():
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
