"""What a machine lacks to start a launch file is said before a provider is asked: credentials, the token, the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.launch.check import main
from cluster.launch.ready import CREDENTIALS, SECRETS, kind_of, lacking

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with both secrets, and no credentials."""
    for name in SECRETS:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("secret")
        path.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_credentials_are_asked_for_with_the_command_that_makes_them(kind: str, home: Path) -> None:
    (said,) = lacking(kind, home, {})
    assert said.startswith(f"no credentials for {kind} (")
    assert said.endswith(CREDENTIALS[kind][2])
    file = home / CREDENTIALS[kind][1][0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert lacking(kind, home, {}) == []


def test_a_variable_is_enough_and_an_empty_one_is_none(home: Path) -> None:
    assert lacking("aws", home, {"AWS_PROFILE": "lab"}) == []
    assert lacking("aws", home, {"AWS_PROFILE": ""}) != []


def test_a_secret_that_is_missing_or_lies_open_is_named(home: Path) -> None:
    (home / ".ray/auth_token").chmod(0o644)
    (home / ".autodriverl/checkpoint.key").unlink()
    said = lacking("gcp", home, {"GOOGLE_APPLICATION_CREDENTIALS": "x"})
    assert said[0] == "~/.ray/auth_token can be read by other users: chmod 600 ~/.ray/auth_token"
    assert said[1].startswith("~/.autodriverl/checkpoint.key does not exist: (umask 077; ")
    assert lacking("kubernetes", home, {"KUBECONFIG": "x"}) == []


def test_the_kind_of_a_file_is_recognised_by_its_keys() -> None:
    assert kind_of({"provider": {"type": "azure"}}) == "azure"
    assert kind_of({"provider": {"type": "moon"}}) is None
    assert kind_of({"apiVersion": "ray.io/v1"}) == "kubernetes"
    assert kind_of({"run": "true"}) == "skypilot"


@pytest.mark.slow
def test_the_check_says_so_only_where_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in CREDENTIALS["aws"][0]:
        monkeypatch.delenv(name, raising=False)
    file = str(ROOT / "cluster/launch/aws.yaml")
    assert main([file]) == 0
    assert "missing here" not in capsys.readouterr().err
    assert main([file, "--ready"]) == 1
    assert "missing here: no credentials for aws" in capsys.readouterr().err
