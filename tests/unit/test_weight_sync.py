"""What a receipt must say for a sync to stand."""

import asyncio
from typing import Any, cast

import pytest
import torch

from actors.sync.checksums import ROW, checksum, derived
from actors.sync.receiver import Arrival, Arrived
from actors.sync.transport import Bucket, Receipt
from actors.weight_sync import SyncReport, WeightSync, check_receipt
from failures import SyncError
from recipe import Recipe


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


class Delivered:
    """A transport that hands over what it was given."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._tensors = list(tensors)

    def receive(self, bucket: Bucket) -> list[torch.Tensor]:
        return self._tensors


def test_installed_weights_are_compared_with_what_arrived() -> None:
    weights: dict[str, torch.Tensor] = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    bucket = Bucket(tuple(weights), tuple(tuple(w.shape) for w in weights.values()), "float32")
    transport: Any = Delivered(*weights.values())
    arrival = Arrival(transport, [bucket])
    module = torch.nn.Module()
    for name, tensor in arrival:
        module.register_parameter(name, torch.nn.Parameter(tensor.clone()))
    sent = (derived(map(checksum, weights.values())),)
    assert arrival.receipt(module, None) == Receipt(sent, compared=2, incomparable=0, differing=())
    assert arrival.uncompared == Receipt(sent, compared=0, incomparable=0, differing=())
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
    nothing_came: Any = None
    arrival = Arrival(nothing_came, [])
    arrival._arrived = {"a": arrived(MATRIX), "b": arrived(BIAS), "c": arrived(BIAS)}
    receipt = arrival.compared({"a": torch.empty(0), "b": BIAS.float()})
    assert receipt == Receipt((), compared=1, incomparable=2, differing=())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("size", [1, 3, 1000, 4096 * 8, 4096 * 8 * 3 + 5])
def test_one_flipped_bit_changes_the_checksum(size: int, dtype: torch.dtype) -> None:
    tensor = torch.arange(size).to(dtype)
    before = checksum(tensor)
    seen = {before}
    for byte in {0, size // 2, size * tensor.itemsize - 1}:
        tensor.view(torch.uint8)[byte] ^= 0x80
        seen.add(checksum(tensor))
        tensor.view(torch.uint8)[byte] ^= 0x80
        assert checksum(tensor) == before
    assert len(seen) == len({0, size // 2, size * tensor.itemsize - 1}) + 1


def test_rows_that_change_places_change_the_checksum() -> None:
    tensor = torch.randn(3 * ROW * 2 + 7)
    for one, other in ((0, 2 * ROW), (1, 4 * ROW + 1), (5, 3 * ROW * 2 + 4)):
        moved = tensor.clone()
        moved[one], moved[other] = tensor[other], tensor[one]
        assert checksum(moved) != checksum(tensor)
    assert checksum(tensor.roll(1)) != checksum(tensor)
    assert checksum(torch.zeros(8)) != checksum(torch.zeros(16)), "nor are zeros of another size the same"


def test_a_checksum_is_of_the_bytes_wherever_they_lie() -> None:
    tensor = torch.randn(50, 40)
    within = torch.cat([torch.zeros(1), tensor.flatten()])[1:].view(50, 40)
    assert checksum(within) == checksum(tensor) == checksum(tensor.t().contiguous().t())
    assert checksum(torch.empty(0)) == 0


def test_a_buckets_checksum_is_of_its_tensors_in_their_order() -> None:
    assert derived([1, 2]) != derived([2, 1])
    assert derived([0]) != derived([0, 0]) != derived([])


def test_a_publish_that_no_engine_took_reports_no_gap_instead_of_a_small_one() -> None:
    metrics = SyncReport(3, 0.1, 1.0, 0, None, 0, 0).metrics
    assert "probe_gap" not in metrics
    assert metrics["sync_engines"] == 0


async def test_an_engine_that_comes_back_during_supervised_steps_gets_its_weights_by_the_next_publish() -> None:
    """Weights that change under the probes would look like a damaged sync, and cost the engine its restarts."""
    recipe, nobody = Recipe.model_validate({"run": {"name": "warm"}}), cast(Any, object())
    sync = WeightSync(nobody, nobody, recipe, [])
    await sync._bring_back(nobody)
    sync.learnt = 0
    with pytest.raises(AttributeError):  # now it does ask
        await sync._bring_back(nobody)


async def test_an_engine_waits_for_a_learner_that_learns_again_what_the_other_engines_hold_already() -> None:
    """Else it would generate with weights that are older than `rollout.max_staleness` allows."""
    recipe, nobody = Recipe.model_validate({"run": {"name": "back"}}), cast(Any, object())
    sync = WeightSync(nobody, nobody, recipe, [])
    sync.version, sync.learnt = 5, 3
    waiting = asyncio.ensure_future(sync._caught_up())
    for step in (3, 4):
        sync.learnt = step
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    sync.learnt = 5
    await asyncio.wait_for(waiting, 5.0)
