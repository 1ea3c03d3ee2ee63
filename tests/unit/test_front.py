"""What HAProxy is started with: its own pages on loopback, and nothing else of Ray's configuration touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serve.front import HAPROXY, LONGEST_FOLDER, front

WRITTEN_BY_RAY = """\
defaults
    mode http
    log global
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
listen stats
  bind *:8404
  stats enable
"""


@pytest.mark.slow  # starts a process
def test_only_its_own_pages_are_taken_from_the_network(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(WRITTEN_BY_RAY)
    environment = {"AUTODRIVERL_HAPROXY": "/bin/echo", "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
                   "RAY_SERVE_HAPROXY_STATS_PORT": "8404", "PATH": "/usr/bin:/bin"}  # fmt: skip
    for _ in range(2):  # at the start, and at a reload, for which Ray writes it anew or not
        run = [str(HAPROXY), "-db", "-f", str(config), "-sf", "7"]
        said = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=60)
        assert said.stdout.split() == ["-db", "-f", str(config), "-sf", "7"]
    lines = config.read_text().splitlines()
    assert [line.strip() for line in lines if "bind" in line] == [
        "bind 127.0.0.1:9101",
        "bind *:8000",
        "bind 127.0.0.1:8404",
    ]
    assert {"    timeout http-request 20s", "    option forwardfor"} < set(lines[: lines.index("frontend prometheus")])


def test_all_that_haproxy_has_lies_in_the_folder(tmp_path: Path) -> None:
    folder = Path("/tmp/adrl-12345678")
    paths = {name: value for name, value in front(folder).items() if "HAPROXY" in name and value.startswith("/tmp")}
    assert len(paths) == 5
    assert all(Path(value).is_relative_to(folder) for value in paths.values())


def test_a_folder_too_long_for_its_socket_leaves_serve_as_it_is() -> None:
    assert front(Path("/" + "x" * LONGEST_FOLDER)) == {}
