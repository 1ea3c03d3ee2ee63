"""Images by URI (`s3://`, `gs://`, `hf://`, `https://`): read through fsspec, where they are used, from places that the
recipe allows, and kept in a folder of this machine that holds to a size. No torch, no ray.

What is allowed travels to every process in the environment variable `VARIABLE`, which `cluster/session.py` passes on.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import fsspec

from data.errors import DataError
from data.settings import DataSettings, UriSettings

VARIABLE = "AUTODRIVERL_URIS"
LARGEST = 64 * 2**20
"""Largest file that is read, in bytes."""
TIMEOUT_S = 60
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S}},
    "gs": {"timeout": TIMEOUT_S},
}
"""What fsspec's file systems take; credentials are those that each cloud's client finds on the machine."""
EXTRA = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Protocols that need a package of the `cloud` extra."""
_URI = re.compile(r"([a-z][a-z0-9+.-]+)://[^/]")
_ODD = re.compile(r"[%@\\?#]|\s")
"""What a URI's path may not have."""
_FULL, _ROOM = 1.0, 0.9
"""What falls out of a full cache leaves this share of its size."""
_SCAN_SHARE = 0.02
"""The folder is looked through after this share of its size was added by one process."""


class UriError(DataError):
    """A URI that cannot be read; the message names it and says what to do."""


def is_uri(path: str) -> bool:
    """Whether a path is a URI, and no file of this machine."""
    return _URI.match(path) is not None


def environment(settings: DataSettings) -> dict[str, str]:
    """The variable that tells other processes what this recipe allows."""
    return {VARIABLE: settings.uris.model_dump_json()} if settings.uris is not None else {}


def allow(settings: DataSettings) -> None:
    """Let this process, and those it starts, read what the recipe allows; nothing else any more."""
    os.environ.pop(VARIABLE, None)
    os.environ.update(environment(settings))


def refusal(uri: str) -> str | None:
    """Why a URI may not be read; None where it may."""
    return refusals([uri]).get(uri)


def refusals(uris: Iterable[str]) -> dict[str, str]:
    """Why URIs may not be read, of those that may not."""
    settings = _settings(os.environ.get(VARIABLE, ""))
    return {uri: why for uri in uris if (why := _fault(uri, settings)) is not None}


def _fault(uri: str, settings: UriSettings | None) -> str | None:
    path = uri.partition("://")[2]
    if any(part in ("", "..", ".") for part in path.split("/")) or _ODD.search(path):
        return f"image {uri} has a part that is empty, `.` or `..`, or one of % @ ? # \\ and blanks: write it plainly"
    if settings is None or not uri.startswith(settings.allowed):
        allowed = "nothing" if settings is None else ", ".join(settings.allowed)
        start = uri[: uri.rindex("/") + 1]
        return f"image {uri} lies outside data.uris.allowed ({allowed}): add {start} to it if you trust that place"
    return None


def read_uri(uri: str) -> bytes:
    """The content of an allowed URI, from this machine's folder where it was read before.

    Raises:
        UriError: it is not allowed, cannot be read, or is larger than `LARGEST`.
    """
    if (why := refusal(uri)) is not None:
        raise UriError(why)
    settings = _settings(os.environ[VARIABLE])
    assert settings is not None
    kept = folder(settings) / hashlib.sha256(uri.encode()).hexdigest()
    try:
        content = kept.read_bytes()
        os.utime(kept)  # what was used last falls out last
        return content
    except FileNotFoundError:
        content = _fetch(uri)
    if len(content) <= settings.cache_gib * 2**30:
        _keep(kept, content, settings)
    return content


def folder(settings: UriSettings) -> Path:
    """The folder of this machine that keeps what was read, its owner's alone."""
    chosen = settings.cache or Path.home() / ".cache" / "autodriverl" / "images"
    chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
    return chosen


@cache
def _settings(text: str) -> UriSettings | None:
    return UriSettings.model_validate_json(text) if text else None


def _fetch(uri: str) -> bytes:
    protocol = uri.partition("://")[0]
    try:
        with _file_system(protocol).open(uri, "rb") as file:
            content: bytes = file.read(LARGEST + 1)
    except ImportError:
        raise UriError(
            f"image {uri} needs {EXTRA.get(protocol, 'a package of fsspec')}: install the cloud extra"
        ) from None
    except Exception as error:  # each file system has its own kinds
        raise UriError(f"image {uri} cannot be read: {type(error).__name__}: {error}") from None
    if len(content) > LARGEST:
        raise UriError(f"image {uri} has more than {LARGEST // 2**20} MiB")
    return content


@cache
def _file_system(protocol: str) -> Any:
    if protocol in ("http", "https"):  # a redirection would lead past the list of what is allowed
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        return fsspec.filesystem(protocol, client_kwargs={"timeout": timeout}, allow_redirects=False, block_size=0)
    return fsspec.filesystem(protocol, **OPTIONS.get(protocol, {}))


_added: dict[Path, int] = {}
"""Bytes that this process has put into a folder since it looked through it."""


def _keep(path: Path, content: bytes, settings: UriSettings) -> None:
    """Put a file into the folder under its name when it is complete; make room where there is none."""
    limit = settings.cache_gib * 2**30
    added = _added.get(path.parent, int(limit)) + len(content)  # look through it at first
    if added > _SCAN_SHARE * limit:
        _make_room(path.parent, limit - len(content))
        added = 0
    _added[path.parent] = added
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix="part-", delete=False) as draft:
        draft.write(content)
    os.replace(draft.name, path)


def _make_room(folder: Path, limit: float) -> None:
    """Remove what was not used for longest, where the folder holds more than its limit."""
    found = []
    for entry in os.scandir(folder):
        try:
            stat = entry.stat()
        except FileNotFoundError:  # another process made room too
            continue
        found.append((stat.st_mtime, stat.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    if total <= _FULL * limit:
        return
    for _, size, path in sorted(found):
        Path(path).unlink(missing_ok=True)
        total -= size
        if total <= _ROOM * limit:
            return
