"""The protobuf messages are the client's own, field by field, and nobody's values get lost on the way."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinker.proto import tinker_public_pb2 as client
from tinker.proto.response_conv import deserialize_forward_backward_output, deserialize_sample_response

from serve.errors import ServiceError
from serve.training.wire import (
    CLASSES,
    MESSAGES,
    array,
    forward_backward_output,
    read_forward_backward,
    sample_response,
)

NAMES = {"EncodedText": "EncodedTextChunk", "Image": "ImageChunk", "Sound": "DmelChunk"}
"""Our names where they are not the client's; names do not travel."""
ENUM, INT32 = 14, 5


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_fields_have_the_numbers_and_types_of_the_clients_own(name: str) -> None:
    theirs = {field.number: field for field in client.DESCRIPTOR.message_types_by_name[NAMES.get(name, name)].fields}
    for field in CLASSES[name].DESCRIPTOR.fields:
        other = theirs[field.number]
        assert (field.name, field.is_repeated) == (other.name, other.is_repeated)
        assert field.type == (INT32 if other.type == ENUM else other.type)
        assert field.has_presence == other.has_presence


rows = st.lists(
    st.lists(st.floats(-50, 0, width=32), min_size=1, max_size=9).map(lambda row: np.array(row, np.float32)), max_size=6
)


@given(rows)
def test_the_client_reads_the_logprobs_that_were_sent(sent: list[np.ndarray]) -> None:
    got = deserialize_forward_backward_output(forward_backward_output(sent, {"loss:sum": 2.5}))
    assert got.metrics == {"loss:sum": 2.5}
    assert len(got.loss_fn_outputs) == len(sent)
    for row, output in zip(sent, got.loss_fn_outputs, strict=True):
        np.testing.assert_array_equal(output["logprobs"].to_numpy(), row)


def test_datums_of_one_and_of_two_dimensions_travel_together() -> None:
    sent = [np.ones(3, np.float32), np.zeros((2, 4), np.float32), np.ones(1, np.float32)]
    got = deserialize_forward_backward_output(forward_backward_output(sent, {}))
    assert [output["logprobs"].shape for output in got.loss_fn_outputs] == [[3], [2, 4], [1]]


def test_the_client_reads_the_samples_that_were_sent() -> None:
    got = deserialize_sample_response(sample_response([((5, 6), (-0.5, -1.0), True)], [float("nan"), -2.0], 7))
    assert (got.sequences[0].tokens, got.sequences[0].stop_reason) == ([5, 6], "stop")
    assert got.prompt_logprobs == [None, -2.0]
    assert got.prompt_cache_hit_tokens == 7


def test_a_sparse_tensor_is_filled_up() -> None:
    tensor = CLASSES["Tensor"](dtype=1, shape=[2, 3])
    tensor.sparse_csr.values = np.array([5, 7], "<f4").tobytes()
    tensor.sparse_csr.crow_indices = np.array([0, 1, 2], "<i8").tobytes()
    tensor.sparse_csr.col_indices = np.array([2, 0], "<i8").tobytes()
    np.testing.assert_array_equal(array(tensor, "weights"), [[0, 0, 5], [7, 0, 0]])


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with contextlib.suppress(ServiceError):  # which is a 422; whatever else is raised fails this test
        assert read_forward_backward(body).SerializeToString() is not None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dtype": 9, "shape": [1], "dense": b""}, "number format 9"),
        ({"dtype": 1, "shape": [5], "dense": b"1234"}, "do not fit its shape"),
        ({"dtype": 1, "shape": [2**40, 2**40], "dense": b"1234"}, "do not fit its shape"),
        ({"dtype": 2, "shape": [1], "dense": b"1234"}, "do not fit its shape"),
    ],
)
def test_a_tensor_that_fits_nothing_is_named(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        array(CLASSES["Tensor"](**fields), "advantages")
