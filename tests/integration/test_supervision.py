"""The supervisor on real Ray actors: whatever becomes of one, its caller hears in time and the pool is whole again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.supervision.care import Care, Probe, State
from actors.supervision.supervisor import Supervised, Supervisor
from failures import ActorLost, ActorTimeout
from tests.integration.workers import LONG_S, SHORT_S, MakePool, Worker, is_whole, lose, process, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session"), pytest.mark.asyncio(loop_scope="module")]


async def test_one_killed_between_calls_is_found_by_the_next_call_and_comes_back(make_pool: MakePool) -> None:
    pool = await make_pool()
    (await process(pool.members[0])).kill()
    with pytest.raises(ActorLost, match=r"worker 0 \(echo\): the actor died"):
        await pool.members[0].call(LONG_S, "echo", ["a"])
    assert await (await pool.choose(LONG_S)).call(LONG_S, "echo", ["b"]) == ["B"]
    assert (pool.counts.lost, pool.counts.restarted) == (1, 1)


async def test_one_killed_in_a_call_fails_that_call_and_what_is_asked_again_goes_elsewhere(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = await make_pool(2)
    doomed = await process(pool.members[0])
    calls, key = iter(["hold", "pid"]), first_key(pool)

    async def ask() -> Any:
        return await (await pool.choose(LONG_S, key)).call(LONG_S, next(calls))

    asking: asyncio.Task[Any] = asyncio.ensure_future(pool.attempts(2)(ask))
    await until((tmp_path / "held").exists)
    doomed.kill()
    assert await asking != doomed.pid
    assert (pool.counts.retried, pool.counts.lost) == (1, 1)
    await is_whole(pool)


def first_key(pool: Supervisor) -> str:
    """A key that belongs to the first member."""
    return next(key for key in map(str, range(100)) if pool._best(key) is pool.members[0])


async def test_one_that_hangs_in_a_call_is_ended_after_the_timeout_and_replaced(make_pool: MakePool) -> None:
    pool = await make_pool()
    hung = await process(pool.members[0])
    with pytest.raises(ActorTimeout, match=r"worker 0 \(hold\) gave no answer within 0.5 s"):
        await pool.members[0].call(SHORT_S, "hold")
    hung.wait(timeout=LONG_S)  # raises where the process is still there
    await is_whole(pool)


async def test_an_error_that_nobody_foresaw_is_a_loss(make_pool: MakePool) -> None:
    pool = await make_pool()
    with pytest.raises(ActorLost, match="nobody foresaw this"):
        await pool.members[0].call(LONG_S, "fail")
    await is_whole(pool)
    assert pool.counts.lost == 1


async def test_one_that_fails_to_come_back_is_given_up_when_its_restarts_are_used_up(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = await make_pool(restarts=3)
    (tmp_path / "broken").touch()
    await lose(pool.members[0])
    with pytest.raises(ActorLost, match=r"no worker is left \(tests\.restarts: 3; worker 0: .*the disk is gone"):
        await pool.choose(LONG_S)
    assert (pool.members[0].state, pool.counts.lost, pool.counts.restarted) == (State.GIVEN_UP, 4, 0)


async def test_one_that_failed_to_come_back_twice_still_comes_back(make_pool: MakePool, tmp_path: Path) -> None:
    pool = await make_pool(restarts=100)
    (tmp_path / "broken").touch()
    await lose(pool.members[0])
    await until(lambda: pool.counts.lost >= 3)
    (tmp_path / "broken").unlink()
    await is_whole(pool)
    assert pool.counts.restarted == 1


async def test_without_restarts_a_lost_one_is_given_up_at_once_and_the_others_do_its_work(make_pool: MakePool) -> None:
    pool = await make_pool(2, restarts=0)
    key = first_key(pool)
    await lose(pool.members[0])
    assert pool.members[0].state is State.GIVEN_UP
    assert await pool.choose(LONG_S, key) is pool.members[1]
    assert not pool.exhausted


async def test_one_that_is_up_again_gets_no_work_before_the_restart_hook_is_done(make_pool: MakePool) -> None:
    fetched = asyncio.Event()
    states: list[State] = []

    async def fetch_weights(member: Supervised) -> None:
        states.append(member.state)
        await member.actor.echo.remote(["weights"])
        await fetched.wait()

    pool = await make_pool(on_restart=fetch_weights)
    await lose(pool.members[0])
    await until(lambda: states)
    with pytest.raises(ActorTimeout, match="no worker came back within 0.5 s"):
        await pool.choose(SHORT_S)
    with pytest.raises(ActorLost, match="worker 0 is stale"):
        await pool.members[0].call(LONG_S, "pid")
    fetched.set()
    await is_whole(pool)
    assert (states, pool.counts.lost) == ([State.STALE], 1)


async def test_a_restart_hook_that_fails_is_a_failed_restart(make_pool: MakePool) -> None:
    async def refuse(member: Supervised) -> None:
        raise KeyError("no such weights")

    pool = await make_pool(restarts=2, on_restart=refuse)
    await lose(pool.members[0])
    with pytest.raises(ActorLost, match="no such weights"):
        await pool.choose(LONG_S)
    assert (pool.counts.lost, pool.counts.restarted) == (3, 0)


async def test_two_callers_that_lose_the_same_actor_lose_it_once(make_pool: MakePool, tmp_path: Path) -> None:
    pool = await make_pool(restarts=1)
    doomed = await process(pool.members[0])
    calls = [asyncio.create_task(pool.members[0].call(LONG_S, method)) for method in ("hold", "pid", "pid")]
    await until((tmp_path / "held").exists)
    doomed.kill()
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in failed] == [ActorLost] * 3
    await is_whole(pool)
    assert (pool.counts.lost, pool.counts.restarted) == (1, 1)


async def test_a_loss_that_is_reported_late_does_not_end_the_actor_that_came_instead(make_pool: MakePool) -> None:
    pool = await make_pool(restarts=1)
    (member,) = pool.members
    old = member.generation
    await lose(member)
    await is_whole(pool)
    member.lose(old, ActorLost("reported late"))
    await is_whole(pool)
    assert pool.counts.lost == 1


async def test_the_probe_finds_one_that_died_silently(make_pool: MakePool) -> None:
    pool = await make_pool(2, probe=Probe(timeout_s=LONG_S, interval_s=0.05))
    silent = await process(pool.members[1])
    silent.kill()
    await until(lambda: pool.counts.restarted)
    await is_whole(pool)
    assert pool.counts.lost == 1


async def test_the_probe_finds_one_that_froze_silently(make_pool: MakePool) -> None:
    pool = await make_pool(2, restarts=100, probe=Probe(timeout_s=5.0, interval_s=0.05))
    frozen = await process(pool.members[1])
    frozen.suspend()
    await until(lambda: not psutil.pid_exists(frozen.pid))
    await until(lambda: len(pool.healthy) == 2)
    assert pool.counts.lost >= 1  # on a busy machine a sound one may be late too, and comes back


async def test_a_health_method_that_raises_is_a_loss(make_pool: MakePool, tmp_path: Path) -> None:
    pool = await make_pool(restarts=0, probe=Probe(timeout_s=LONG_S, interval_s=0.05, method="ill"))
    await is_whole(pool)
    (tmp_path / "ill").touch()
    await until(lambda: pool.exhausted)
    assert "not well" in pool.members[0].why


async def test_the_probe_leaves_one_alone_that_is_busy(make_pool: MakePool) -> None:
    pool = await make_pool(restarts=0, probe=Probe(timeout_s=SHORT_S, interval_s=0.05))
    with pytest.raises(ActorTimeout, match=r"worker 0 \(hold\)"):
        await pool.members[0].call(5 * SHORT_S, "hold")


async def test_a_probe_that_may_ask_busy_ones_finds_one_that_is_stuck_in_a_call(make_pool: MakePool) -> None:
    pool = await make_pool(restarts=0, probe=Probe(timeout_s=SHORT_S, interval_s=0.05, while_busy=True))
    with pytest.raises(ActorLost, match="the actor died"):
        await pool.members[0].call(LONG_S, "hold")
    assert pool.members[0].why == "worker 0 (probe) gave no answer within 0.5 s"


async def never(member: Supervised) -> None:
    await asyncio.Event().wait()


async def test_closing_stops_those_in_good_order_that_are_well(make_pool: MakePool, tmp_path: Path) -> None:
    pool = await make_pool(2, on_restart=never, stop="stop", stop_timeout_s=LONG_S)
    processes = [await process(member) for member in pool.members]
    await lose(pool.members[0])
    assert not (tmp_path / "stopped").exists()
    await pool.close()
    processes[1].wait(timeout=LONG_S)
    assert (tmp_path / "stopped").exists()
    with pytest.raises(ActorLost, match="no worker is left"):
        await pool.choose(LONG_S)


async def test_closing_fails_who_waits_for_an_actor_and_who_waits_for_an_answer(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = await make_pool(on_restart=never)
    await lose(pool.members[0])
    busy = await make_pool()
    waiting = [asyncio.create_task(pool.choose(LONG_S)), asyncio.create_task(busy.members[0].call(LONG_S, "hold"))]
    await until((tmp_path / "held").exists)
    await asyncio.gather(pool.close(), busy.close())
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in failed] == [ActorLost] * 2


async def ask_on(actor: Any) -> None:
    """A kill arrives a moment after it was sent."""
    async with asyncio.timeout(LONG_S):
        while True:
            await actor.pid.remote()


async def test_a_pool_of_which_one_does_not_start_leaves_nothing_behind(tmp_path: Path) -> None:
    made: list[Any] = []

    def make(index: int) -> list[Any]:
        folder = tmp_path / str(index)
        folder.mkdir()
        if index == 1:
            (folder / "broken").touch()
        made.append(ray.remote(Worker).options(num_cpus=0).remote(folder))
        return [made[-1]]

    pool = Supervisor("worker", 2, make, Care(start_timeout_s=LONG_S, restarts=1, budget="tests.restarts"))
    with pytest.raises(ray.exceptions.RayTaskError, match="the disk is gone"):
        await pool.start()
    for actor in made:
        with pytest.raises(ray.exceptions.RayActorError):
            await ask_on(actor)


async def test_what_was_launched_before_is_what_is_started(tmp_path: Path) -> None:
    made: list[Any] = []

    def make(index: int) -> list[Any]:
        made.append(ray.remote(Worker).options(num_cpus=0).remote(tmp_path))
        return [made[-1]]

    pool = Supervisor("worker", 1, make, Care(start_timeout_s=LONG_S, restarts=1, budget="tests.restarts"))
    pool.launch()
    (launched,) = made
    await pool.start()
    assert (made, pool.members[0].actor) == ([launched], launched)
    await lose(pool.members[0])
    await is_whole(pool)
    assert len(made) == 2
    await pool.close()


async def test_the_ranks_of_a_group_are_lost_and_come_back_together(tmp_path: Path) -> None:
    met: list[list[int]] = []

    async def meet(group: Supervised) -> None:
        met.append(await asyncio.gather(*(rank.pid.remote() for rank in group.actors)))

    def make(index: int) -> list[Any]:
        return [ray.remote(Worker).options(num_cpus=0).remote(tmp_path) for _ in range(2)]

    care = Care(start_timeout_s=LONG_S, restarts=1, budget="tests.restarts")
    pool = Supervisor("learners", 1, make, care, start_member=meet)
    await pool.start()
    (group,) = pool.members
    os.kill(met[0][1], signal.SIGKILL)
    with pytest.raises(ActorLost):
        async with group.watched() as ranks:
            await asyncio.gather(*(rank.echo.remote([]) for rank in ranks))
    await until(lambda: pool.healthy)
    assert not set(met[0]) & set(met[1])
    await until(lambda: not any(psutil.pid_exists(pid) for pid in met[0]))
    await pool.close()


async def test_the_one_with_the_least_to_do_is_chosen_and_a_key_keeps_its_own(make_pool: MakePool) -> None:
    pool = await make_pool(3)
    for member, load in zip(pool.members, (2, 1, 3), strict=True):
        member.load = load
    assert await pool.choose(LONG_S) is pool.members[1]
    keys = [f"scene-{number}" for number in range(50)]
    chosen = [(await pool.choose(LONG_S, key)).index for key in keys]
    assert set(chosen) == {0, 1, 2}
    assert chosen == [(await pool.choose(LONG_S, key)).index for key in keys]
