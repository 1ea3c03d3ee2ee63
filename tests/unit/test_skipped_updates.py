"""Updates that were skipped because their gradient is not finite."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from actors.learning.group import SkippedUpdates
from failures import TooManySkipped
from policies.batch import TrainingGroup, TrainingResponse
from policies.views import View

GROUPS = [TrainingGroup((View("CAM_FRONT", "a.jpg"),), (1, 2), (TrainingResponse((3,), (-0.5,), (math.nan,)),))]


def test_the_batch_of_a_skipped_update_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SkippedUpdates(tmp_path / "skipped", 3).record(7, False, GROUPS, math.nan)
    kept = json.loads((tmp_path / "skipped/update_000007.json").read_text())
    assert kept["groups"][0]["prompt_ids"] == [1, 2]
    assert kept["groups"][0]["images"] == [["CAM_FRONT", "a.jpg"]]
    assert "update 7 skipped" in capsys.readouterr().out


def test_too_many_in_a_row_end_the_run_and_one_that_is_applied_forgives(tmp_path: Path) -> None:
    skipped = SkippedUpdates(tmp_path, 2)
    skipped.record(1, False, GROUPS, math.nan)
    skipped.record(2, True, GROUPS, 0.1)
    skipped.record(3, False, GROUPS, math.nan)
    with pytest.raises(TooManySkipped, match="2 updates in a row"):
        skipped.record(4, False, GROUPS, math.nan)
