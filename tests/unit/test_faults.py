from __future__ import annotations

from data.faults import Faults


def test_a_reason_with_entries_dropped_and_kept_lists_them_all() -> None:
    faults = Faults()
    faults.drop("malformed_entry", "a", "a is no record")
    faults.keep("malformed_entry", "b", "b has an object without a place")
    faults.drop("empty_answer", "c", "c has no answer")
    faults.keep("unknown_tag", "d", "d has another tag")
    assert faults.as_dict() == {"malformed_entry": ["a", "b"], "empty_answer": ["c"], "unknown_tag": ["d"]}
