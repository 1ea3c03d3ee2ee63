"""The key that checkpoints are signed with: what DeepSpeed wrote is pickled, and loading a pickle can run any code."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from failures import CheckpointError

KEY_VARIABLE = "AUTODRIVERL_CHECKPOINT_KEY"
"""Environment variable that names another file for the key."""
SHORTEST_KEY = 32


def key_path() -> Path:
    """The file of the key."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".autodriverl" / "checkpoint.key"


def checkpoint_key(run_folder: Path) -> bytes:
    """The key of this user, made at the first time of asking.

    Args:
        run_folder: of the run whose checkpoints are signed; anyone who may write beside it must not read the key.

    Raises:
        CheckpointError: the file lies under the folder of all runs, cannot be made, is open to others, or is no key.
    """
    path = key_path()
    if path.resolve().is_relative_to(run_folder.resolve().parent):
        raise CheckpointError(
            f"the key {path} that signs checkpoints lies among the runs in {run_folder.resolve().parent}: set "
            f"{KEY_VARIABLE} to a file elsewhere"
        )
    try:
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CheckpointError(f"other users can read the key {path} that signs checkpoints: chmod 600 {path}")
        key = path.read_bytes().strip()
    except OSError as error:
        raise CheckpointError(
            f"the key {path} that signs checkpoints cannot be read or made ({error.strerror}): set {KEY_VARIABLE} to a "
            "file that you can write"
        ) from None
    if len(key) < SHORTEST_KEY:
        raise CheckpointError(f"{path} is no key of {SHORTEST_KEY} characters: remove it, and a new one is made")
    return key


def signature(key: bytes, content: Mapping[str, Any]) -> str:
    """The signature of what a manifest says."""
    text = json.dumps({name: value for name, value in content.items() if name != "signature"}, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_signed(key: bytes, content: Mapping[str, Any]) -> bool:
    """Whether a manifest's own signature is of this key and this content."""
    return hmac.compare_digest(signature(key, content), str(content.get("signature", "")))


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; one that another process made meanwhile stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
