"""docs/sizing.md is what the planner says, every pass traced."""

from __future__ import annotations

import pytest

from cluster.sizing_page import PAGE, sizing


@pytest.mark.slow
def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert sizing(["--check"]) == 0, capsys.readouterr().out
    assert PAGE.is_file()
