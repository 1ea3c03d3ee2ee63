"""Labels match as Ray matches them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.label_utils import validate_label_selector

from cluster.labels import matches, selector

WORDS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,10}[a-zA-Z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("label", "labels", "fits"),
    [
        ("judge", {"autodriverl/role": "judge"}, True),
        ("judge", {"autodriverl/role": "trainer"}, False),
        ("judge", {}, False),
        ("!judge", {}, True),
        ("in(trainer, rollout)", {"autodriverl/role": "rollout"}, True),
        ("!in(trainer,rollout)", {"autodriverl/role": "rollout"}, False),
        ("ray.io/accelerator-type=A100", {"ray.io/accelerator-type": "A100"}, True),
        ("gpu=in(A100-80GB,H100-80GB)", {"gpu": "H100-80GB"}, True),
    ],
)
def test_a_label_matches_as_its_words_say(label: str, labels: dict[str, str], fits: bool) -> None:
    assert matches(selector(label), labels) is fits


@given(words=st.lists(WORDS, min_size=1, max_size=3), negated=st.booleans(), listed=st.booleans())
def test_what_is_read_is_what_ray_takes_too(words: list[str], negated: bool, listed: bool) -> None:
    value = ("!" if negated else "") + (f"in({','.join(words)})" if listed else words[0])
    wanted = selector(value)
    assert validate_label_selector(wanted) is None
    assert matches(wanted, {"autodriverl/role": words[0]}) is not negated
