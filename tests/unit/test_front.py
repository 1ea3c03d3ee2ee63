"""What HAProxy is started with: one address, and all of its files in the folder of its Ray."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serve.front import HAPROXY, LONGEST_FOLDER, front
from serve.settings import ServeSettings

WRITTEN_BY_RAY = """\
defaults
    mode http
    log global
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
backend http-default
    server replica 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""
LEFT = """\
defaults
    mode http
    timeout http-request 20s
    option forwardfor
    log global
frontend http_frontend
    bind 0.0.0.0:8000
backend http-default
    server replica 127.0.0.1:30000 check
"""


@pytest.mark.slow  # starts a process
def test_it_listens_for_clients_alone(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(WRITTEN_BY_RAY)
    environment = {"AUTODRIVERL_HAPROXY": "/bin/echo", "AUTODRIVERL_LISTEN": "0.0.0.0:8000", "PATH": "/usr/bin:/bin"}
    run = [str(HAPROXY), "-db", "-f", str(config), "-sf", "7"]
    said = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["-db", "-f", str(config), "-sf", "7"]
    assert config.read_text() == LEFT


def test_all_that_haproxy_has_lies_in_the_folder(tmp_path: Path) -> None:
    folder = Path("/tmp/adrl-12345678")
    paths = {
        name: value
        for name, value in front(folder, ServeSettings()).items()
        if "HAPROXY" in name and value.startswith("/tmp")
    }
    assert len(paths) == 5
    assert all(Path(value).is_relative_to(folder) for value in paths.values())


def test_a_folder_too_long_for_its_socket_leaves_serve_as_it_is() -> None:
    assert front(Path("/" + "x" * LONGEST_FOLDER), ServeSettings()) == {}
