"""Bench2Drive's agent against a stand-in simulator, as a process of its own, and a stand-in endpoint over loopback."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from commands import evaluate
from data.driving.asking import drive_question
from data.sample import Trajectory
from data.tokens.bins import Bins
from data.tokens.codebook import Codebook
from data.tokens.segments import Segment

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "docs/examples/bench2drive_agent.py"
KEY = "a key that only this test knows"


@pytest.mark.parametrize("file", [AGENT, ROOT / "data/driving/asking.py", ROOT / "data/driving/controller.py"])
def test_what_runs_in_the_simulators_python_is_of_its_age_and_brings_nothing(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 7))
    given = {"carla", "leaderboard", "data"} | sys.stdlib_module_names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= given
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in given
            assert node.module != "data" or file == AGENT
        assert not isinstance(node, ast.NamedExpr)


class Endpoint(BaseHTTPRequestHandler):
    """Steers for the next point that the question names, at a steady pace; or says what `says` gives."""

    says: Any = None
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        assert self.headers["Authorization"] == f"Bearer {KEY}"
        type(self).seen.append(body)
        reply = json.dumps({"choices": [{"message": {"content": self.says(body)}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def endpoint(says: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    seen: list[dict[str, Any]] = []
    handler = type("Own", (Endpoint,), {"says": staticmethod(says), "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    server.shutdown()
    server.server_close()


def towards(body: dict[str, Any]) -> tuple[float, float]:
    """Where the question says that the route leads, for one second at 5 m/s."""
    found = re.search(r"is (-?[\d.]+) m ahead and ([\d.]+) m to the (\w+)", body["messages"][0]["content"][-1]["text"])
    assert found is not None
    ahead, left = float(found[1]), float(found[2]) * (1 if found[3] == "left" else -1)
    far = max(1.0, (ahead**2 + left**2) ** 0.5)
    return 2.5 * ahead / far, 2.5 * left / far


def simulate(folder: Path, url: str, tokens: Path, *more: str) -> subprocess.CompletedProcess[str]:
    config = {"url": url, "model": "vla", "tokens": str(tokens), "cameras": ["CAM_FRONT"], "size": [32, 18]}
    (folder / "agent.json").write_text(json.dumps(config))
    given = [
        str(ROOT / "tests/bench2drive_standin.py"),
        str(AGENT),
        str(folder / "agent.json"),
        str(folder / "result.json"),
    ]
    environment = {"PATH": os.environ["PATH"], "SAVE_PATH": str(folder / "saved"), "AUTODRIVERL_KEY": KEY}
    return subprocess.run([sys.executable, *given, *more], capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture
def book(tmp_path: Path) -> Codebook:
    segments = [Segment(0.25 * n, 0.05 * k * n / 4, 0.02 * k) for n in range(14) for k in range(-6, 7)]
    made, _ = Codebook.fit(segments, 128)
    made.write(tmp_path / "codes.json", {})
    return made


@pytest.mark.slow
def test_by_motions_the_route_is_driven_and_the_result_is_scored(
    tmp_path: Path, book: Codebook, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(lambda body: book.encode(Segment(*towards(body), 0.0))) as (url, seen):
        ran = simulate(tmp_path, url, tmp_path / "codes.json", "7")
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["_checkpoint"]["records"][0]["status"] == "Perfect"
    seconds = len(seen) * 0.5
    assert 10 < seconds < 20, "asked twice a second of the simulation"
    picture = seen[0]["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert image.size == (32, 18)
    counts = json.loads((tmp_path / "saved/RouteScenario_1711_rep0/agent.json").read_text())
    assert counts == {"plans": len(seen), "unreadable": 0, "unanswered": 0}
    arguments = ["bench2drive", "--result", str(tmp_path / "result.json"), "--routes", "1", "--route-set", "0.0.4"]
    assert evaluate.main([*arguments, "--motions", str(tmp_path / "saved")]) == 0
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (out["driving_score"], out["success_rate"], out["route_set"]) == (100.0, 100.0, "0.0.4")


@pytest.mark.slow
def test_by_waypoints_the_route_is_driven_too(tmp_path: Path) -> None:
    futures = [tuple((0.25 * k * n, 0.6 * v * n, 0.0) for n in range(1, 7)) for k in range(-6, 7) for v in range(6)]
    bins, _ = Bins.fit([Trajectory((), future, "forward") for future in futures], 256)
    bins.write(tmp_path / "bins.json", {})

    def plan(body: dict[str, Any]) -> str:
        ahead, left = towards(body)
        return f"<think>The road is free.</think>{bins.encode([(-left * n, ahead * n) for n in range(1, 7)])}"

    with endpoint(plan) as (url, _):
        ran = simulate(tmp_path, url, tmp_path / "bins.json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "result.json").read_text())["_checkpoint"]["records"][0]["status"] == "Perfect"


@pytest.mark.slow
def test_answers_that_are_no_plan_or_do_not_come_are_counted_and_it_brakes(tmp_path: Path, book: Codebook) -> None:
    said = iter(["I go left.", "<act_9999>"] * 100)
    with endpoint(lambda _: next(said)) as (url, seen):
        ran = simulate(tmp_path, url, tmp_path / "codes.json")
    counts = json.loads((tmp_path / "saved/RouteScenario_1711_rep0/agent.json").read_text())
    assert counts == {"plans": 0, "unreadable": len(seen), "unanswered": 0}
    assert json.loads((tmp_path / "result.json").read_text())["_checkpoint"]["records"][0]["status"].startswith(
        "Failed"
    )
    ran = simulate(tmp_path, url, tmp_path / "codes.json")
    counts = json.loads((tmp_path / "saved/RouteScenario_1711_rep0/agent.json").read_text())
    assert counts["unanswered"] == len(seen)
    assert "the endpoint did not answer" in ran.stdout


@pytest.mark.slow
def test_an_endpoint_elsewhere_is_refused(tmp_path: Path, book: Codebook) -> None:
    ran = simulate(tmp_path, "http://10.0.0.7:8000/v1", tmp_path / "codes.json")
    assert ran.returncode == 1
    assert "url must be on this machine's loopback" in ran.stderr


def test_the_question_has_one_form() -> None:
    assert drive_question(7.25, 12.0, -0.5) == (
        "Speed 7.2 m/s. The next point of the route is 12.0 m ahead and 0.5 m to the right. What do you do?"
    )
