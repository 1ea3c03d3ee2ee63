from __future__ import annotations

import json
import sys

import pytest

from benchmarks.corruption_determinism import main
from data.corruptions.corruption import CORRUPTION_NAMES


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_after_other_work_and_in_processes_whose_memory_begins_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["corruption_determinism", "--times", "2"])
    main()
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["one_process"] == dict.fromkeys(CORRUPTION_NAMES, 2)
    assert printed["processes"] == dict.fromkeys(CORRUPTION_NAMES, 2)
    assert printed["together"] == dict.fromkeys(CORRUPTION_NAMES, 4)
