"""Where a run's first weights come from: a checkpoint folder, a hub name, or the tiny policy built on the spot."""

from __future__ import annotations

from pathlib import Path

from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy

TINY = "tiny"


def policy_source(settings: PolicySettings, cache: Path, seed: int) -> str:
    """A folder or hub name that `load_policy` and the engines take; `tiny` is built under `cache` once per seed."""
    if settings.model != TINY:
        path = Path(settings.model).expanduser()
        return str(path.resolve()) if path.is_dir() else settings.model
    folder = cache.resolve() / f"tiny-policy-{seed}"
    if not (folder / "model.safetensors").is_file():
        build_tiny_policy(folder, seed)
    return str(folder)
