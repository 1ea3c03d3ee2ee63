from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import json_stream
from data.errors import DataError
from data.json_stream import items, members, outermost, small_value

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=4), st.booleans())
def test_a_file_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory, listed: list[Any], named: dict[str, Any], ascii: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(listed, ensure_ascii=ascii))
    assert (outermost(path), list(items(path))) == ("list", listed)
    path.write_text("\n " + json.dumps(named, ensure_ascii=ascii))
    assert (outermost(path), dict(members(path))) == ("object", named)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", r"a\.json is not valid JSON: line 1 column 1"),
        ('[1,\n2,\n"cut', r"line 3 column 1"),
        ("[1] 2", r"line 1 column 5"),
        ("[1, NaN]", r"NaN and Infinity are no JSON"),
        ("[1, 123456789012345678901234567890]", r"a\.json holds a number of more than 64 bits: .*integer overflow"),
        ('["\xff"]', r"not UTF-8 text: byte 2"),
        ("1" * 5000, r"a\.json is not valid JSON: Exceeds the limit"),
    ],
)
def test_a_broken_file_is_one_sentence_with_the_place(tmp_path: Path, raw: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw.encode("latin-1"))
    with pytest.raises(DataError, match=message) as caught:
        (outermost(path), list(items(path)))
    assert "\n" not in str(caught.value)


def test_what_stands_before_the_fault_of_a_large_file_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_REREAD_BYTES", 10)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(list(range(20_000)))[:-1])
    stream = items(path)
    read: list[int] = []
    with pytest.raises(DataError, match=r"a\.json is not valid JSON: .* within the first \d+ bytes"):
        read.extend(stream)
    assert read[:100] == list(range(100))


def test_a_file_too_large_to_be_read_as_a_whole_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_REREAD_BYTES", 2**20)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"records": "x" * 2**20}))
    with pytest.raises(DataError, match=r"a\.json .*1 MiB"):
        small_value(path)
    path.write_text(json.dumps("x" * 2**20))
    with pytest.raises(DataError, match=r"a\.json .*object.*list"):
        outermost(path)
