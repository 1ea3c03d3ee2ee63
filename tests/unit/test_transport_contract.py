"""What every weight transport promises, built-in or yours: `WeightTransport`, sentence by sentence."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.settings import LearnerSettings, RolloutSettings
from actors.sync.checksums import checksum
from actors.sync.collective import GlooTransport
from actors.sync.shared_memory import SharedMemoryTransport
from actors.sync.transport import Bucket, Meeting, WeightTransport, join, transport_of
from docs.examples.transport import FileTransport
from extension import ExtensionError
from failures import EngineError
from recipe import Recipe
from serve.operations.listening import free_port

OWN = "docs.examples.transport:FileTransport"
TRANSPORTS = ("gloo", "shared_memory", OWN)
"""NCCL, which is the same broadcast, needs GPUs."""
LEARNER, ROLLOUT = LearnerSettings(), RolloutSettings()
DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(params=TRANSPORTS)
def meeting(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Meeting]:
    def make(members: int = 3, timeout_s: float = 300.0) -> Meeting:
        options = {"folder": str(tmp_path)} if request.param == OWN else {}
        return Meeting(request.param, "127.0.0.1", free_port(), members, timeout_s, options)

    return make


def together(meeting: Meeting, work: Callable[[int, WeightTransport], Any]) -> list[Any]:
    """What each member did after it joined, by number; all stay until the last is through, as in a run."""
    with ThreadPoolExecutor(meeting.members) as threads:
        joined = list(threads.map(lambda member: join(meeting, member), range(meeting.members)))
        return list(threads.map(work, range(meeting.members), joined))


def buckets(dtype: str) -> list[tuple[Bucket, list[Tensor]]]:
    """Five buckets of three tensors, the later ones larger: a matrix, a vector, and one without dimensions."""
    draws = torch.Generator().manual_seed(0)
    made = []
    for number in range(5):
        shapes: tuple[tuple[int, ...], ...] = ((3, 4 + number), (5,), ())
        tensors = [torch.randn(shape, generator=draws) for shape in shapes]
        made.append((Bucket(tuple(f"{number}-{i}" for i in range(3)), shapes, dtype), tensors))
    return made


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_receiver_gets_the_buckets_as_sent_and_in_order(meeting: Callable[..., Meeting], dtype: str) -> None:
    def work(member: int, transport: WeightTransport) -> list[Any]:
        if member == 0:
            for _, tensors in buckets(dtype):
                transport.send(tensors, dtype)
            return []
        return [transport.receive(bucket) for bucket, _ in buckets(dtype)]

    _, *receivers = together(meeting(), work)
    for received in receivers:
        for tensors, (bucket, sent) in zip(received, buckets(dtype), strict=True):
            assert [tuple(tensor.shape) for tensor in tensors] == list(bucket.shapes)
            for tensor, one in zip(tensors, sent, strict=True):
                torch.testing.assert_close(tensor, one.to(getattr(torch, dtype)), rtol=0, atol=0)


def test_a_tensor_that_is_held_on_to_is_not_written_over(meeting: Callable[..., Meeting]) -> None:
    def work(member: int, transport: WeightTransport) -> list[Tensor]:
        if member == 0:
            for _, tensors in buckets("float32"):
                transport.send(tensors, "float32")
            return []
        held = [transport.receive(bucket)[0] for bucket, _ in buckets("float32")]
        return held

    _, held = together(meeting(members=2), work)
    for tensor, (_, sent) in zip(held, buckets("float32"), strict=True):
        torch.testing.assert_close(tensor, sent[0], rtol=0, atol=0)


@pytest.mark.parametrize(("transport", "travels"), [(GlooTransport, "_broadcast"), (FileTransport, "_write")])
def test_a_byte_that_changes_on_the_way_changes_the_checksum(
    transport: Any, travels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`travels` is the method of the transport that sends the bytes off."""
    sound, sender = getattr(transport, travels), threading.local()

    def damaging(self: Any, buffer: Tensor) -> Any:
        if getattr(sender, "sends", False):
            buffer.view(torch.uint8)[7] ^= 1
        return sound(self, buffer)

    monkeypatch.setattr(transport, travels, damaging)
    (bucket, tensors), *_ = buckets("float32")

    def work(member: int, joined: WeightTransport) -> list[int]:
        sender.sends = member == 0
        if member == 0:
            joined.send(tensors, "float32")
        return list(map(checksum, tensors if member == 0 else joined.receive(bucket)))

    name = f"{transport.__module__}:{transport.__name__}"
    sent, arrived = together(Meeting(name, "127.0.0.1", free_port(), 2, 300.0, {"folder": str(tmp_path)}), work)
    assert sent != arrived


def stay(given: Meeting, member: int, joined: Any) -> None:
    """Join, take nothing, and be there until killed."""
    held = join(given, member)
    joined.set()
    time.sleep(3600.0)
    del held


@pytest.mark.slow
def test_where_one_receiver_is_killed_neither_the_sender_nor_the_others_wait_out_their_time(
    meeting: Callable[..., Meeting],
) -> None:
    given = meeting(timeout_s=3000.0)  # far above the test's own limit
    bucket = Bucket(("matrix",), ((1024, 1024),), "float32")
    spawning = multiprocessing.get_context("spawn")
    joined = spawning.Event()
    killed = spawning.Process(target=stay, args=(given, 2, joined), daemon=True)
    killed.start()
    with ThreadPoolExecutor(2) as threads:
        sender, receiver = threads.map(lambda member: join(given, member), range(2))

        def send() -> None:
            try:
                for _ in range(10):
                    sender.send([torch.zeros(1024, 1024)], "float32")
            except Exception:
                sender.abandon()  # as a learner does
                raise

        def receive() -> None:
            for _ in range(11):  # one more than is ever sent, for a transport that does not wait for readers
                receiver.receive(bucket)

        sending, receiving = threads.submit(send), threads.submit(receive)
        assert joined.wait(300)
        wait([sending, receiving], 2.0)
        killed.kill()
        killed.join()
        sender.abandon()
        assert receiving.exception(120) is not None
        waits_for_readers = given.transport != OWN
        assert (sending.exception(120) is not None) == waits_for_readers


def test_a_receiver_that_never_comes_ends_in_an_error(meeting: Callable[..., Meeting]) -> None:
    with pytest.raises((RuntimeError, TimeoutError), match=r"(?i)timed? ?out|did not appear within"):
        join(meeting(members=2, timeout_s=1.0), 0).send([torch.ones(3)], "float32")


def test_a_sender_that_sends_nothing_ends_in_an_error(meeting: Callable[..., Meeting]) -> None:
    (bucket, _), *_ = buckets("float32")
    ended = threading.Event()

    def work(member: int, transport: WeightTransport) -> None:
        if member == 0:
            assert ended.wait(300)
            return
        try:
            with pytest.raises((RuntimeError, TimeoutError), match=r"(?i)timed? ?out|did not appear within"):
                transport.receive(bucket)
        finally:
            ended.set()

    together(meeting(members=2, timeout_s=3.0), work)


def chosen(rollout: dict[str, Any] | None = None, learner: dict[str, Any] | None = None, **sync: Any) -> str:
    parts = {"run": {"name": "a"}, "rollout": rollout or {}, "learner": learner or {}, "sync": sync}
    return transport_of(Recipe.model_validate(parts))


def test_auto_is_nccl_where_everybody_has_a_gpu_of_his_own_and_elsewhere_what_reaches_every_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen() == "shared_memory"
    assert chosen({"gpus": 1}, {"gpus": 1}) == "nccl"
    assert chosen({"gpus": 0.5}, {"gpus": 0.5}) == "shared_memory"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert chosen() == "gloo"
    assert chosen(transport="gloo") == "gloo"
    assert chosen(transport=OWN, options={"folder": "/tmp"}) == OWN


class NoSender:
    """Lacks three methods."""

    Settings = FileTransport.Settings
    refusal = FileTransport.refusal


@pytest.mark.parametrize(
    ("rollout", "sync", "said"),
    [
        ({}, {"transport": "nccl"}, "sync.transport=nccl cannot serve this placement: it needs a whole GPU for every"),
        (
            {},
            {"transport": "shared_memory"},
            "it needs a run that starts Ray on its own machine, and this one joins 10.0.0.7:6379",
        ),
        ({"engines": 2}, {"transport": OWN}, "cannot serve this placement: it needs one engine on the learner's node"),
        ({}, {"transport": "ncl"}, "sync.transport=ncl is unknown (did you mean nccl?, or module:Class of your own)"),
        (
            {},
            {"transport": "rdma"},
            "sync.transport=rdma is unknown (known: auto, nccl, shared_memory, gloo, or module:Class",
        ),
        ({}, {"options": {"folder": "x"}}, "unknown key sync.options.folder (known: none)"),
        ({}, {"transport": OWN, "options": {"foldr": "x"}}, "unknown key sync.options.foldr (did you mean folder?)"),
        ({}, {"transport": "tests.unit.test_transport_contract:NoSender"}, "NoSender lacks send, receive, abandon"),
    ],
)
def test_a_transport_that_cannot_be_had_is_refused_in_one_sentence(
    rollout: dict[str, Any], sync: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with pytest.raises(ExtensionError) as error:
        chosen(rollout, **sync)
    assert said in str(error.value)


def test_memory_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meeting = Meeting("shared_memory", "127.0.0.1", free_port(), 2, 60.0)
    sender = join(meeting, 0)
    elsewhere = tmp_path / "boot_id"
    elsewhere.write_text("another machine")
    monkeypatch.setattr("actors.sync.shared_memory.BOOT_ID", elsewhere)
    with pytest.raises(EngineError, match="reaches one machine, and an engine is on another: use gloo"):
        join(meeting, 1)
    del sender


def test_shared_memory_is_gone_with_those_that_hold_it() -> None:
    def work(member: int, transport: WeightTransport) -> list[str]:
        for bucket, tensors in buckets("float32"):
            if member == 0:
                transport.send(tensors, "float32")
            else:
                transport.receive(bucket)
        return open_memory()

    assert any(together(Meeting("shared_memory", "127.0.0.1", free_port(), 2, 60.0), work))
    gc.collect()
    assert open_memory() == []
    assert SharedMemoryTransport.refusal(Recipe.model_validate({"run": {"name": "a"}})) is None


def open_memory() -> list[str]:
    """What this process holds of it."""
    links = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [link for link in links if "memfd:weights" in link]
