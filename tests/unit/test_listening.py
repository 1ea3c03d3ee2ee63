"""A port in use is one sentence that names the field, before anything is loaded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve import app, manage
from serve.errors import ServeError
from serve.operations.listening import check_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_free_port_is_fine_and_stays_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServeError, match=r"cannot listen on 192\.0\.2\.1:8000 \(serve\.host, serve\.port\)"):
        check_port("192.0.2.1", 8000)


def test_a_service_does_not_start_where_something_listens(
    taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert app.main([f"serve.port={taken}", f"run.root={tmp_path}"]) == 2
    assert f"error: cannot listen on 127.0.0.1:{taken} (serve.host, serve.port): Address" in capsys.readouterr().err


def test_the_pages_alone_do_not_either(taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", f"serve.port={taken}", "--set", f"run.root={tmp_path}", "pages"]
    assert manage.main(given) == 2
    assert "set serve.port to a free one, or end what listens there" in capsys.readouterr().err
