"""The token of a Ray that starts here: nobody else can read it, whatever the environment says already."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster.session import _guard_ports

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("mode", [None, "token"])
def test_ray_gets_a_token_and_writes_none_to_the_home_folder(home: Path, mode: str | None) -> None:
    if mode is not None:
        os.environ["RAY_AUTH_MODE"] = mode  # as in the images
    _guard_ports()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert not (home / ".ray").exists()


def test_a_token_that_lies_there_is_closed_to_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = home / ".ray" / "auth_token"
    kept.parent.mkdir()
    kept.write_text("sentinel")
    kept.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    _guard_ports()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_who_turns_the_token_off_or_names_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _guard_ports()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/somewhere")
    _guard_ports()
    assert "RAY_AUTH_TOKEN" not in os.environ
