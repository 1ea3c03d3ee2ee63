from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data.admission import SeenIds
from data.coordinates import odd_groups

IDS = st.lists(st.one_of(st.text(max_size=6), st.builds("{}_{}".format, st.sampled_from("ab"), st.integers(0, 12000))))


@given(IDS)
def test_an_id_is_new_exactly_once(ids: list[str]) -> None:
    seen, known = SeenIds(), set[str]()
    for id in ids:
        assert seen.add(id) == (id not in known)
        known.add(id)


def test_numbers_written_otherwise_are_other_ids() -> None:
    seen = SeenIds()
    assert [seen.add(id) for id in ("a_7", "a_07", "a_7", "a_٧", "a_")] == [True, True, False, True, True]


def test_groups_with_a_number_too_many_are_found() -> None:
    text = "<c1,CAM_BACK,1.5>, <c2,CAM_BACK,1.5,2.5>, (light, red, 1, 2, 3), (3.5), [1, 2], [1.0, 2.0, 3.0]"
    assert odd_groups(text) == ["<c1,CAM_BACK,1.5>", "(light, red, 1, 2, 3)", "[1.0, 2.0, 3.0]"]


@given(st.text())
def test_any_text_is_searched_for_odd_groups(text: str) -> None:
    assert all(group in text for group in odd_groups(text))
