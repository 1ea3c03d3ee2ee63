from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.pages.histogram import MOST_BINS, Bin, bins, histogram

POINTS = st.floats(0, 100).map(lambda points: round(points, 6))
"""Scores have few decimals; next to zero, where floats lie denser than any bin's edge can, none is."""
SCORES = st.lists(POINTS, min_size=1, max_size=60)


def test_counts_are_those_of_numpy_in_the_same_bins() -> None:
    values = np.random.default_rng(0).normal(40, 12, 500).clip(0, 100).tolist()
    counted = bins(values, values[:100], band=(25.0, 45.0))
    edges = [one.low for one in counted] + [counted[-1].high]
    assert [one.count for one in counted] == np.histogram(values, edges)[0].tolist()
    assert [one.chosen for one in counted] == np.histogram(values[:100], edges)[0].tolist()


@pytest.mark.parametrize("band", [(25.0, 45.0), (10.0, 31.0)])
def test_no_bin_is_half_in_the_papers_bands(band: tuple[float, float]) -> None:
    counted = bins([2.0, 30.0, 79.0], band=band)
    edges = {one.low for one in counted} | {counted[-1].high}
    assert set(band) <= edges


@given(SCORES, st.tuples(POINTS, POINTS).map(sorted))
def test_every_score_is_counted_once_in_adjoining_bins_on_the_scale(values: list[float], ends: list[float]) -> None:
    counted = bins(values, values[::2], (ends[0], ends[1]))
    assert sum(one.count for one in counted) == len(values)
    assert sum(one.chosen for one in counted) == len(values[::2])
    assert len(counted) <= MOST_BINS
    assert all(one.high == other.low for one, other in zip(counted, counted[1:], strict=False))
    assert counted[0].low <= min(values)
    assert counted[-1].high >= max(values)
    assert counted[0].low >= 0
    assert counted[-1].high <= 100


def test_one_value_makes_one_bin_and_none_makes_none() -> None:
    assert bins([30.0]) == (Bin(30.0, 31.0, 1, 0),)
    assert bins([0.0, 100.0])[-1] == Bin(96.0, 100.0, 1, 0)
    assert bins([]) == ()


def test_bars_stand_as_high_as_their_counts_and_the_band_is_marked() -> None:
    drawn = str(histogram([12.0] * 10 + [30.0] * 5, [30.0] * 5, (25.0, 45.0), "Scores <of> frames"))
    rects = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawn)
    heights = {style: [float(height) for kind, *_, height in rects if kind == style] for style in ("all", "chosen")}
    assert max(heights["all"]) == pytest.approx(2 * heights["chosen"][0], abs=0.1)
    assert [style for style, *_ in rects].count("band") == 1
    assert "10 frames, 0 chosen" in drawn
    assert 'aria-label="Scores &lt;of&gt; frames"' in drawn
    assert "nothing to count" in histogram([], [], None, "Scores")
