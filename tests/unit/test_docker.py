"""The Dockerfiles pin their bases, run as nobody special, install what constraints.txt says, and name no registry."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.suffix[1:])
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Each instruction with its arguments on one line, comments left out."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def arguments(path: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(path) if instruction == name]


def test_there_is_one_image_for_cpu_and_one_for_training() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".cpu", ".train"]


@pytest.mark.slow
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}")
    assert hadolint, "hadolint belongs to the dev extra: make setup"
    found = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stdout


def test_the_base_is_pinned_to_a_full_version(dockerfile: Path) -> None:
    (base,) = arguments(dockerfile, "FROM")
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[\w.-]+", base)


def test_it_does_not_run_as_root(dockerfile: Path) -> None:
    *_, user = arguments(dockerfile, "USER")
    assert int(user.partition(":")[0]) >= 1000


def test_packages_come_from_the_constraints_and_no_registry_is_named(dockerfile: Path) -> None:
    text = " ".join(arguments(dockerfile, "RUN"))
    installs = re.findall(r"pip install [^&]*", text)
    assert installs
    assert all("--constraint constraints.txt" in install for install in installs)
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host", text)


def test_what_is_copied_exists_and_is_not_ignored(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    for copied in arguments(dockerfile, "COPY"):
        *sources, _ = [word for word in copied.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in ignored


@pytest.mark.parametrize("heavy", [".venv", ".git", "runs", "**/__pycache__"])
def test_what_no_image_needs_stays_out_of_the_build(heavy: str) -> None:
    assert heavy in (ROOT / ".dockerignore").read_text().split("\n")


@pytest.mark.slow
def test_what_is_written_in_a_container_is_its_owners_alone(dockerfile: Path, tmp_path: Path) -> None:
    (entrypoint,) = arguments(dockerfile, "ENTRYPOINT")
    written = tmp_path / "auth_token"
    subprocess.run([*json.loads(entrypoint), "touch", str(written)], check=True, timeout=60)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
