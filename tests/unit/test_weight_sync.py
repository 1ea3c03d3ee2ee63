"""What a receipt must say for a sync to stand."""

import threading

import pytest
import torch

from actors.errors import SyncError
from actors.sync.receiver import Arrival, Arrived, Receipt
from actors.sync.transport import Bucket, Meeting, WeightChannel, checksum
from actors.weight_sync import check_receipt


def test_an_intact_receipt_passes() -> None:
    check_receipt("rollout engine 0", 3, [1, 2], Receipt((1, 2), compared=4, incomparable=0, differing=()))


@pytest.mark.parametrize(
    ("receipt", "message"),
    [
        (Receipt((1, 9), 4, 0, ()), r"rollout engine 0 received bucket\(s\) \[1\] of 2 changed in transit"),
        (Receipt((1, 2), 4, 0, ("lm_head.weight",)), "installed other values than it received.*lm_head.weight"),
        (Receipt((1, 2), 0, 6, ()), "no parameter that could be compared"),
    ],
)
def test_a_faulty_receipt_stops_the_run_and_names_the_engine(receipt: Receipt, message: str) -> None:
    with pytest.raises(SyncError, match=message):
        check_receipt("rollout engine 0", 3, [1, 2], receipt)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_bucket_arrives_as_it_was_sent() -> None:
    meeting = Meeting("127.0.0.1", free_port(), 2, "gloo", 300.0)
    weights = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    sums: list[int] = []

    def send() -> None:
        sums.append(WeightChannel(meeting, rank=0).send(list(weights.values()), "float32"))

    sender = threading.Thread(target=send)
    sender.start()
    bucket = Bucket(tuple(weights), tuple(tuple(w.shape) for w in weights.values()), "float32")
    arrival = Arrival(WeightChannel(meeting, rank=1), [bucket])
    received = {name: tensor.clone() for name, tensor in arrival}
    sender.join(timeout=300)
    torch.testing.assert_close(received, weights, rtol=0, atol=0)
    module = torch.nn.Module()
    for name, tensor in received.items():
        module.register_parameter(name, torch.nn.Parameter(tensor))
    assert arrival.receipt(module, None) == Receipt(tuple(sums), compared=2, incomparable=0, differing=())
    with torch.no_grad():
        module.get_parameter("b")[2] += 1e-3
    assert arrival.receipt(module, None).differing == ("b",)


def arrived(tensor: torch.Tensor) -> Arrived:
    return Arrived(tuple(tensor.shape), tensor.dtype, checksum(tensor))


MATRIX = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
BIAS = MATRIX[0].clone()


@pytest.mark.parametrize(
    ("travelled", "installed"),
    [
        (BIAS, BIAS.float()),  # what vLLM keeps beside a weight that it packs for AMX
        (BIAS, BIAS.double()),
        (BIAS.half(), BIAS.half().float()),
        (MATRIX, torch.cat([MATRIX, torch.zeros(2, 6).bfloat16()])),  # a padded vocabulary
        (MATRIX, torch.cat([MATRIX.float(), torch.ones(58, 6)])),
        (MATRIX, MATRIX.t()),  # a view
        (MATRIX, MATRIX.t().contiguous()),  # a layout
        (MATRIX, MATRIX.t().contiguous().float()),
    ],
)
def test_the_same_values_in_another_form_are_no_difference(travelled: torch.Tensor, installed: torch.Tensor) -> None:
    assert arrived(travelled).same_as(installed) is True
    changed = installed.clone()
    first = (0,) * changed.dim()
    changed[first] = torch.nextafter(changed[first], torch.tensor(9.0, dtype=changed.dtype))
    assert arrived(travelled).same_as(changed) is False, "a change below the resolution of what travelled"


@pytest.mark.parametrize(
    "installed",
    [
        torch.empty(0).bfloat16(),  # packed elsewhere, for AMX or oneDNN
        torch.empty(6, 6, device="meta"),
        MATRIX.to(torch.float8_e4m3fn),
        MATRIX.to(torch.int8),
        MATRIX.half(),  # has fewer exponent bits
        MATRIX[:3],  # a shard
        MATRIX.reshape(4, 9),
        torch.cat([MATRIX, MATRIX], dim=1),
    ],
)
def test_a_packed_narrowed_or_sharded_weight_cannot_be_compared(installed: torch.Tensor) -> None:
    assert arrived(MATRIX).same_as(installed) is None


def test_weights_that_cannot_be_compared_are_counted() -> None:
    arrival = Arrival.__new__(Arrival)
    arrival._bucket_checksums = []
    arrival._arrived = {"a": arrived(MATRIX), "b": arrived(BIAS), "c": arrived(BIAS)}
    receipt = arrival.compared({"a": torch.empty(0), "b": BIAS.float()})
    assert receipt == Receipt((), compared=1, incomparable=2, differing=())


def test_a_receiver_that_never_comes_ends_in_a_timeout() -> None:
    meeting = Meeting("127.0.0.1", free_port(), 2, "gloo", 1.0)
    with pytest.raises(RuntimeError, match="(?i)timed? ?out|timeout"):
        WeightChannel(meeting, rank=0)


def test_one_flipped_bit_changes_the_checksum() -> None:
    tensor = torch.randn(1000)
    before = checksum(tensor)
    tensor.view(torch.uint8)[1234] ^= 1
    assert checksum(tensor) != before
