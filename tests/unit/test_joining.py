"""What stands in the way of joining a cluster is one sentence: nothing there, no token, other versions."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from ray._private.authentication.authentication_constants import TOKEN_AUTH_ENABLED_BUT_NO_TOKEN_FOUND_ERROR_MESSAGE
from ray._private.utils import check_version_info
from ray.exceptions import AuthenticationError

from cluster.errors import SessionError
from cluster.joining import join


@pytest.fixture
def address() -> Iterator[str]:
    """A place where something listens, which is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield "{}:{}".format(*listening.getsockname())


def joining(address: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said where Ray raises an error."""

    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr("cluster.joining.ray.init", init)
    with pytest.raises(SessionError) as refused:
        join(address, "--address")
    return str(refused.value)


def test_where_nothing_listens_the_address_and_what_names_it_are_said() -> None:
    with pytest.raises(SessionError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 \(--address\): .* start one"):
        join("127.0.0.1:1", "--address")


def test_a_cluster_that_wants_a_token_says_where_to_put_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = AuthenticationError(TOKEN_AUTH_ENABLED_BUT_NO_TOKEN_FOUND_ERROR_MESSAGE)
    said = joining(address, error, monkeypatch)
    assert f"the Ray cluster at {address} (--address) wants a token" in said
    assert "~/.ray/auth_token (chmod 600), or set RAY_AUTH_TOKEN" in said


def test_a_cluster_of_another_version_is_named_with_both(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as mismatch:  # as Ray itself says it
        check_version_info({"ray_version": "2.9.0", "python_version": "3.8.1"}, "this process")
    said = joining(address, mismatch.value, monkeypatch)
    assert "has other versions than this process" in said
    assert "2.9.0" in said
    assert "constraints.txt" in said
    assert "\n" not in said


def test_what_is_not_known_is_raised_as_it_is(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        joining(address, RuntimeError("something else"), monkeypatch)
