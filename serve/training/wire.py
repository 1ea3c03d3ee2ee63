"""The messages of Tinker's protocol that travel as protobuf, described in our own table and made into classes here.

Field numbers and types are those that the client sends and reads (SDK 0.38.0). The classes live in a pool of their own,
so that the client's package may be imported beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from serve.errors import ServiceError

MEDIA_TYPE = "application/x-protobuf"
FLOAT32, INT64 = 1, 2
"""Number formats of a tensor."""
NUMPY: dict[int, Any] = {FLOAT32: np.dtype("<f4"), INT64: np.dtype("<i8")}
STOP, LENGTH = 0, 1
"""Why a sequence ended."""

Kind = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "bytes": Kind.TYPE_BYTES,
    "string": Kind.TYPE_STRING,
    "double": Kind.TYPE_DOUBLE,
    "int32": Kind.TYPE_INT32,
    "int64": Kind.TYPE_INT64,
    "uint32": Kind.TYPE_UINT32,
    "bool": Kind.TYPE_BOOL,
}
MESSAGES: dict[str, str] = {
    "SampleResponse": "1 sequences SampledSequence*, 2 prompt_logprobs bytes?, 4 prompt_cache_hit_tokens int32",
    "SampledSequence": "1 stop_reason int32, 2 tokens bytes, 3 logprobs bytes?",
    "SparseCsr": "1 values bytes, 2 crow_indices bytes, 3 col_indices bytes",
    "Tensor": "1 dense bytes|encoding, 2 sparse_csr SparseCsr|encoding, 3 dtype int32, 4 shape int64*",
    "BatchedTensor": "1 data bytes, 2 offsets bytes, 3 dtype int32, 4 trailing_shape int64*",
    "ArrayRecord": "1 type_tag string, 2 fields {BatchedTensor}, 3 num_datums int64",
    "ForwardBackwardOutput": "1 loss_fn_output_type string, 2 loss_fn_outputs ArrayRecord*, 3 metrics {double}",
    "ForwardBackwardRequest": "1 model_id string, 2 seq_id int32, 3 data Datum*, 4 loss_fn string, "
    "5 loss_fn_config {double}, 6 forward_only bool, 7 loss_fn_config_v2 {LossConfigValue}",
    "LossConfigValue": "1 number double|value, 2 text string|value",
    "Datum": "1 model_input Chunk*, 2 loss_fn_inputs {Tensor}",
    "Chunk": "1 encoded_text EncodedText|chunk, 2 image Image|chunk, 3 dmel Sound|chunk",
    "EncodedText": "1 tokens bytes",
    "Image": "1 data bytes, 2 format string, 3 expected_tokens int32?",
    "Sound": "1 dmel bytes",
}
"""Message to its fields: number, name and type, with `*` for repeated, `?` for optional, `{}` for a map from strings,
`|name` for a member of a oneof. Numbers of an enum travel as int32 do."""


def _field(message: Any, number: str, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=int(number), label=Kind.LABEL_OPTIONAL)
    kind, _, oneof = kind.partition("|")
    if kind.startswith("{"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _field(entry, "1", "key", "string")
        _field(entry, "2", "value", kind[1:-1])
        kind = f"{message.name}.{entry.name}*"
    if kind.endswith("*"):
        field.label, kind = Kind.LABEL_REPEATED, kind[:-1]
    if kind.endswith("?"):  # a oneof of one member is how protobuf 3 says optional
        kind, field.proto3_optional, oneof = kind[:-1], True, f"_{name}"
    if oneof:
        known = [one.name for one in message.oneof_decl]
        if oneof not in known:
            message.oneof_decl.add(name=oneof)
        field.oneof_index = known.index(oneof) if oneof in known else len(known)
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = Kind.TYPE_MESSAGE, f".service.{kind}"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="service.proto", package="service", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            _field(message, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"service.{name}")) for name in MESSAGES}


CLASSES = _classes()


def read_forward_backward(body: bytes) -> Any:
    """The request in a body.

    Raises:
        ServiceError: 422, it is none.
    """
    try:
        return CLASSES["ForwardBackwardRequest"].FromString(body)
    except DecodeError:
        raise ServiceError(422, "the body is no ForwardBackwardRequest in protobuf", "bad_body") from None


def array(tensor: Any, name: str) -> np.ndarray:
    """A tensor's values in its shape; a sparse one filled up with zeros.

    Raises:
        ValueError: what it holds does not fit its shape or its number format; the sentence names it.
    """
    if tensor.dtype not in NUMPY:
        raise ValueError(f"{name} has number format {tensor.dtype}: send float32 or int64")
    kind, shape = NUMPY[tensor.dtype], list(tensor.shape)
    try:
        if tensor.WhichOneof("encoding") != "sparse_csr":
            values = np.frombuffer(tensor.dense, kind)
            return values.reshape(shape) if shape else values
        csr = tensor.sparse_csr
        starts, columns = np.frombuffer(csr.crow_indices, "<i8"), np.frombuffer(csr.col_indices, "<i8")
        if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] > 2**26:
            raise ValueError("a sparse tensor needs two sides of moderate size")
        full = np.zeros(shape, kind)
        full[np.repeat(np.arange(shape[0]), np.diff(starts)), columns] = np.frombuffer(csr.values, kind)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{name}: its data do not fit its shape {shape} ({error})") from None
    return full


def forward_backward_output(logprobs: Sequence[np.ndarray], metrics: Mapping[str, float]) -> bytes:
    """The result of a forward_backward: for each datum its log-probabilities, (N) or (N, K)."""
    answer = CLASSES["ForwardBackwardOutput"](loss_fn_output_type="ArrayRecord")
    for trailing, alike in itertools.groupby(logprobs, key=lambda row: row.shape[1:]):
        pieces = [row.astype("<f4").tobytes() for row in alike]
        record = answer.loss_fn_outputs.add(num_datums=len(pieces))
        field = record.fields["logprobs"]
        field.dtype, field.data = FLOAT32, b"".join(pieces)
        field.offsets = np.cumsum([0, *map(len, pieces)], dtype="<i8").tobytes()  # in bytes, one more than datums
        field.trailing_shape.extend(trailing)
    for name, value in metrics.items():
        answer.metrics[name] = value
    return bytes(answer.SerializeToString())


def sample_response(
    sequences: Sequence[tuple[Sequence[int], Sequence[float], bool]],
    prompt_logprobs: Sequence[float] | None,
    cached: int,
) -> bytes:
    """The result of a sampling request: for each sequence tokens, their log-probabilities, and whether it stopped."""
    answer = CLASSES["SampleResponse"](prompt_cache_hit_tokens=cached)
    for tokens, logprobs, stopped in sequences:
        answer.sequences.add(
            stop_reason=STOP if stopped else LENGTH,
            tokens=np.asarray(tokens, "<i4").tobytes(),
            logprobs=np.asarray(logprobs, "<f4").tobytes(),
        )
    if prompt_logprobs is not None:
        answer.prompt_logprobs = np.asarray(prompt_logprobs, "<f4").tobytes()
    return bytes(answer.SerializeToString())
