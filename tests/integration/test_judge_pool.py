"""The judge pool against a real HTTP judge that fails in every way it can: masked or judged again, never a zero."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.scoring.judge_pool import JudgePool
from benchmarks.judge_server import best_sheet, completion
from rewards.errors import RewardError
from rewards.judge import Criterion, JudgeFailed, JudgeRequest
from rewards.judge_cache import JudgeCache
from rewards.judge_endpoint import JudgeEndpoint
from rewards.settings import JudgeSettings

Reply = Callable[[dict[str, Any]], web.Response] | str

SHEET = (Criterion("correctness", 60), Criterion("clarity", 40))
GOOD = json.dumps({"correctness": 60, "clarity": 15})


def request(answer: str = "Keep going.") -> JudgeRequest:
    return JudgeRequest("test@1", "Judge the answer.", answer, SHEET)


class ScriptedJudge:
    """Replies as its script says, in order, then with a good sheet each time; remembers what it was asked.

    While `open` is clear, no reply leaves it.
    """

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.url, self.open = "", asyncio.Event()
        self.open.set()
        self.flying = self.most_flying = 0

    async def complete(self, http: web.Request) -> web.Response:
        body = await http.json()
        self.asked.append(body)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        await self.open.wait()
        self.flying -= 1
        reply = self.script.pop(0) if self.script else GOOD
        if reply == "hang":
            await asyncio.Event().wait()
        return web.json_response(completion(body, reply)) if isinstance(reply, str) else reply(body)


@pytest.fixture
async def judge() -> AsyncIterator[ScriptedJudge]:
    scripted, app = ScriptedJudge(), web.Application()
    app.router.add_post("/v1/chat/completions", scripted.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


def pool(url: str, cache: Path | None = None, **settings: Any) -> JudgePool:
    quick: dict[str, Any] = {"attempts": 3, "backoff_s": 0.01, "longest_backoff_s": 2.0, "timeout_s": 300.0}
    chosen = JudgeSettings(model="m", url=url, **(quick | settings))
    return JudgePool(JudgeEndpoint(chosen), chosen, JudgeCache(cache) if cache else None)


def status(code: int, **headers: str) -> Reply:
    return lambda body: web.json_response({"error": {"message": "no"}}, status=code, headers=headers)


def garbage(body: dict[str, Any]) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


def no_completion(body: dict[str, Any]) -> web.Response:
    return web.json_response({"choices": [{"message": "none"}]})


def a_list(body: dict[str, Any]) -> web.Response:
    return web.json_response([1, 2])


def cut_off(body: dict[str, Any]) -> web.Response:
    return web.Response(text='{"id": "c", "choices": [', content_type="application/json")


async def test_a_sheet_is_added_up_here_and_asked_for_by_schema(judge: ScriptedJudge) -> None:
    judging = pool(judge.url)
    judgement = await judging.judge(request())
    assert (judgement.value, judgement.points) == (75.0, {"correctness": 60, "clarity": 15})
    (body,) = judge.asked
    assert body["messages"][0] == {"role": "system", "content": "Judge the answer."}
    assert best_sheet(body) == {"correctness": 60, "clarity": 40}
    await judging.stop()


@pytest.mark.parametrize(
    "fault",
    [status(429), status(503), status(500), garbage, cut_off, no_completion, a_list],
    ids=lambda f: getattr(f, "__name__", f),
)
async def test_after_a_passing_fault_the_answer_is_judged_after_all(judge: ScriptedJudge, fault: Reply) -> None:
    judge.script, judging = [fault], pool(judge.url)
    assert (await judging.judge(request())).value == 75.0
    assert (judging.counts.retried, judging.counts.judged, judging.counts.failed) == (1, 1, {})
    await judging.stop()


async def test_after_a_reply_that_never_came_the_answer_is_judged_after_all(judge: ScriptedJudge) -> None:
    judge.script, judging = ["hang"], pool(judge.url, timeout_s=1.0, attempts=100)  # on a busy machine some are late
    assert (await judging.judge(request())).value == 75.0
    assert judging.counts.retried >= 1
    assert (judging.counts.judged, judging.counts.failed) == (1, {})
    await judging.stop()


async def test_a_judge_that_never_replies_is_given_up_after_the_last_attempt(judge: ScriptedJudge) -> None:
    judge.open.clear()
    judging = pool(judge.url, timeout_s=0.5)
    with pytest.raises(JudgeFailed) as caught:
        await judging.judge(request())
    assert (caught.value.reason, judging.counts.retried, judging.counts.failed) == ("timeout", 2, {"timeout": 1})
    await judging.stop()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(429), "rate_limited"),
        (status(503), "server_error"),
        (garbage, "server_error"),
        (cut_off, "server_error"),
        (no_completion, "server_error"),
    ],
)
async def test_a_lasting_fault_is_given_up_under_its_name(judge: ScriptedJudge, fault: Reply, reason: str) -> None:
    judge.script, judging = [fault] * 3, pool(judge.url)
    with pytest.raises(JudgeFailed) as caught:
        await judging.judge(request())
    assert caught.value.reason == reason
    assert (len(judge.asked), judging.counts.failed) == (3, {reason: 1})
    await judging.stop()


async def test_a_refused_connection_is_tried_again_and_then_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    judging = pool(nobody)
    with pytest.raises(JudgeFailed, match="connection"):
        await judging.judge(request())
    assert judging.counts.retried == 2
    await judging.stop()


async def test_a_url_where_nobody_answers_is_reported_before_anything_begins(tmp_path: Path) -> None:
    settings = JudgeSettings(model="m", url="http://127.0.0.1:9/v1")
    with pytest.raises(RewardError, match=r"reward\.judge\.url.*http://127\.0\.0\.1:9/v1"):
        await JudgePool.start(settings, tmp_path)


@pytest.mark.parametrize("code", [200, 401, 403, 404, 500])
async def test_a_key_that_is_not_accepted_is_reported_at_once_and_a_server_that_lists_no_models_will_do(
    tmp_path: Path, code: int
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [], "error": {"message": "no"}}, status=code)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = JudgeSettings(model="m", url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    if code in (401, 403):
        with pytest.raises(RewardError, match=rf"does not accept the key in .*{settings.api_key_env} \(HTTP {code}\)"):
            await JudgePool.start(settings, tmp_path)
    else:
        await (await JudgePool.start(settings, tmp_path)).stop()
    await runner.cleanup()


async def test_the_wait_that_the_judge_asks_for_is_kept(judge: ScriptedJudge) -> None:
    judge.script, judging = [status(429, **{"retry-after": "1"})], pool(judge.url)
    began = asyncio.get_running_loop().time()
    await judging.judge(request())
    assert asyncio.get_running_loop().time() - began >= 1.0
    await judging.stop()


async def test_a_request_that_the_judge_refuses_is_not_sent_again(judge: ScriptedJudge) -> None:
    judge.script, judging = [status(400)], pool(judge.url)
    with pytest.raises(JudgeFailed, match="refused"):
        await judging.judge(request())
    assert len(judge.asked) == 1
    await judging.stop()


BAD_SHEETS = {
    "empty": "",
    "prose": "I would give it 90 points.",
    "truncated": '{"correctness": 60, "cla',
    "NaN": '{"correctness": NaN, "clarity": 1}',
    "101": '{"correctness": 101, "clarity": 1}',
    "-1": '{"correctness": -1, "clarity": 1}',
    "half points": '{"correctness": 1.5, "clarity": 1}',
    "a number": "75",
    "a line too few": '{"correctness": 60}',
    "a total of its own": '{"correctness": 60, "clarity": 15, "total": 100}',
}


@pytest.mark.parametrize("sheet", BAD_SHEETS.values(), ids=BAD_SHEETS)
async def test_an_invalid_sheet_is_asked_for_once_more_and_then_given_up(judge: ScriptedJudge, sheet: str) -> None:
    judge.script, judging = [sheet], pool(judge.url)
    assert (await judging.judge(request("first"))).value == 75.0
    assert "no valid sheet" in judge.asked[1]["messages"][1]["content"]
    judge.script, judge.asked = [sheet, sheet, GOOD], []
    with pytest.raises(JudgeFailed) as caught:
        await judging.judge(request("second"))
    assert (caught.value.reason, len(judge.asked), judging.counts.asked_again) == ("invalid_reply", 2, 2)
    await judging.stop()


async def test_no_more_requests_fly_than_the_recipe_allows(judge: ScriptedJudge) -> None:
    judging = pool(judge.url, max_concurrent=4)
    judge.open.clear()
    asking = [asyncio.create_task(judging.judge(request(str(number)))) for number in range(24)]
    while judge.flying < 4:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # in which a fifth would come
    judge.open.set()
    await asyncio.gather(*asking)
    assert judge.most_flying == 4
    await judging.stop()


async def test_requests_per_minute_are_kept(judge: ScriptedJudge) -> None:
    judging = pool(judge.url, requests_per_minute=2)
    asking = [asyncio.create_task(judging.judge(request(str(number)))) for number in range(5)]
    while len(judge.asked) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # the third may come half a minute after the first
    assert len(judge.asked) == 2
    await judging.stop()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_the_same_answer_is_judged_once_in_flight_and_across_restarts(
    judge: ScriptedJudge, tmp_path: Path
) -> None:
    first = pool(judge.url, tmp_path / "cache.sqlite")
    values = await asyncio.gather(*(first.judge(request()) for _ in range(5)))
    assert ({one.value for one in values}, len(judge.asked), first.counts.joined) == ({75.0}, 1, 4)
    await first.stop()
    again = pool(judge.url, tmp_path / "cache.sqlite")
    assert (await again.judge(request())).value == 75.0
    assert (len(judge.asked), again.counts.cached) == (1, 1)
    await again.stop()


@pytest.mark.parametrize("changed", [{"model": "another"}, {"revision": "v2"}, {"temperature": 0.5}, {"seed": 1}])
async def test_another_judge_never_gets_these_scores(
    judge: ScriptedJudge, tmp_path: Path, changed: dict[str, Any]
) -> None:
    first = pool(judge.url, tmp_path / "cache.sqlite")
    await first.judge(request())
    await first.stop()
    settings = JudgeSettings(**({"model": "m", "url": judge.url} | changed))
    other = JudgePool(JudgeEndpoint(settings), settings, JudgeCache(tmp_path / "cache.sqlite"))
    await other.judge(request())
    assert (len(judge.asked), other.counts.cached) == (2, 0)
    await other.stop()


async def test_a_failure_is_never_kept(judge: ScriptedJudge, tmp_path: Path) -> None:
    judge.script, judging = ["nonsense", "nonsense"], pool(judge.url, tmp_path / "cache.sqlite")
    with pytest.raises(JudgeFailed):
        await judging.judge(request())
    assert (await judging.judge(request())).value == 75.0
    await judging.stop()


@pytest.mark.parametrize("damage", [b"this is no database", b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_damaged_cache_is_moved_aside_and_the_answers_are_judged_again(
    judge: ScriptedJudge, tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(damage)
    judging = pool(judge.url, path)
    assert (await judging.judge(request())).value == 75.0
    assert judging.cache is not None
    assert judging.cache.corrupt == 1
    assert [kept.read_bytes() for kept in tmp_path.glob("cache.sqlite.corrupt-*")] == [damage]
    await judging.stop()


async def test_a_kept_reply_that_was_altered_is_judged_again(judge: ScriptedJudge, tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    first = pool(judge.url, path)
    await first.judge(request())
    await first.stop()
    with sqlite3.connect(path) as connection:
        connection.execute('UPDATE replies SET reply = \'{"correctness": 1000, "clarity": 0}\'')
    again = pool(judge.url, path)
    assert ((await again.judge(request())).value, len(judge.asked)) == (75.0, 2)
    await again.stop()


async def test_the_key_of_the_endpoint_comes_from_the_environment(
    judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "a secret")
    judging = pool(judge.url, api_key_env="MY_KEY")
    assert "a secret" not in judging.backend.identity
    await judging.stop()
