"""What a receipt must say for a sync to stand."""

import threading

import pytest
import torch

from actors.errors import SyncError
from actors.transport import Bucket, Meeting, WeightChannel, checksum
from actors.weight_receiver import Arrival, Receipt
from actors.weight_sync import check_receipt


def test_an_intact_receipt_passes() -> None:
    check_receipt("rollout engine 0", 3, [1, 2], Receipt((1, 2), compared=4, differing=()))


@pytest.mark.parametrize(
    ("receipt", "message"),
    [
        (Receipt((1, 9), 4, ()), r"rollout engine 0 received bucket\(s\) \[1\] of 2 changed in transit"),
        (Receipt((1, 2), 4, ("lm_head.weight",)), "installed other values than it received.*lm_head.weight"),
        (Receipt((1, 2), 0, ()), "no parameter that could be compared"),
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
    assert arrival.receipt(module, None) == Receipt(tuple(sums), compared=2, differing=())
    with torch.no_grad():
        module.get_parameter("b")[2] += 1e-3
    assert arrival.receipt(module, None).differing == ("b",)


def test_a_receiver_that_never_comes_ends_in_a_timeout() -> None:
    meeting = Meeting("127.0.0.1", free_port(), 2, "gloo", 1.0)
    with pytest.raises(RuntimeError, match="(?i)timed? ?out|timeout"):
        WeightChannel(meeting, rank=0)


def test_one_flipped_bit_changes_the_checksum() -> None:
    tensor = torch.randn(1000)
    before = checksum(tensor)
    tensor.view(torch.uint8)[1234] ^= 1
    assert checksum(tensor) != before
