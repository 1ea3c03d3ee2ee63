"""DeepSpeed's op loads although an earlier process was killed in the midst of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actors.learning.deepspeed_op import OP, op_folder


def test_the_lock_that_a_killed_build_left_behind_blocks_nobody(tmp_path: Path) -> None:
    shutil.copytree(op_folder(), tmp_path / OP)
    left_behind = tmp_path / OP / "lock"
    left_behind.touch()
    environ = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "actors.learning.deepspeed_op"], env=environ, check=True, timeout=1200)
    assert not left_behind.exists()


def test_the_op_is_built_in_the_environment_unless_torchs_own_setting_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    assert op_folder() == Path(sys.prefix) / "torch_extensions" / OP
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert op_folder() == tmp_path / OP
