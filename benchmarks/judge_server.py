"""A judge that only waits: an OpenAI-compatible server which replies with a valid sheet after a fixed time.

    python -m benchmarks.judge_server --latency 0.2 --limit 64

Prints its URL, then serves until it is stopped. It refuses a request above the limit with HTTP 429, and counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from aiohttp import web


class WaitingJudge:
    """Replies after `latency_s`, to at most `limit` requests at once."""

    def __init__(self, latency_s: float, limit: int) -> None:
        """Serve nobody yet."""
        self.latency_s, self.limit = latency_s, limit
        self.in_flight = self.most_in_flight = self.served = self.refused = 0

    async def complete(self, request: web.Request) -> web.Response:
        """One chat completion: every criterion of the schema at its maximum."""
        if self.in_flight >= self.limit:
            self.refused += 1
            return web.json_response({"error": {"message": "too many requests"}}, status=429)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.json()
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        self.served += 1
        return web.json_response(completion(body, json.dumps(best_sheet(body))))

    async def counts(self, _: web.Request) -> web.Response:
        """What it served and refused."""
        return web.json_response(
            {"served": self.served, "refused": self.refused, "most_in_flight": self.most_in_flight}
        )

    def app(self) -> web.Application:
        """The server's routes."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/counts", self.counts)
        return app


def best_sheet(body: dict[str, Any]) -> dict[str, int]:
    """A sheet with every criterion at its maximum."""
    schema = body["response_format"]["json_schema"]["schema"]
    return {name: field["maximum"] for name, field in schema["properties"].items()}


def completion(body: dict[str, Any], content: str) -> dict[str, Any]:
    """A chat completion that says `content`."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}


async def serve(latency_s: float, limit: int) -> None:
    """Serve on a free loopback port for ever."""
    runner = web.AppRunner(WaitingJudge(latency_s, limit).app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds per reply")
    parser.add_argument("--limit", type=int, default=64, help="requests at once; one more is refused")
    options = parser.parse_args()
    asyncio.run(serve(options.latency, options.limit))


if __name__ == "__main__":
    main()
