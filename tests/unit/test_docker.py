"""The Dockerfiles pin their bases, run as nobody special, install what constraints.txt says, and name no registry."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.launch.commands import check_shell, check_training
from cluster.launch.finding import Findings

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


def test_there_is_an_image_for_each_role_that_needs_packages_of_its_own() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".cpu", ".sglang", ".train"]


@pytest.mark.slow
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}")
    assert hadolint, "hadolint belongs to the dev extra: make setup"
    found = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stdout


def test_the_base_is_pinned_to_a_full_version(dockerfile: Path) -> None:
    (base,) = arguments(dockerfile, "FROM")
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[\w.-]+(@sha256:[0-9a-f]{64})?", base)


def test_it_does_not_run_as_root(dockerfile: Path) -> None:
    *_, user = arguments(dockerfile, "USER")
    assert int(user.partition(":")[0]) >= 1000


def test_packages_come_from_the_constraints_and_no_registry_is_named(dockerfile: Path) -> None:
    text = " ".join(arguments(dockerfile, "RUN"))
    installs = re.findall(r"pip install [^&]*", text)
    assert installs
    named = [install for install in installs if "--constraint constraints.txt" not in install]
    assert all(re.search(r"==\d", install) for install in named), named
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host", text)


def test_what_is_copied_exists_and_is_not_ignored(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert arguments(dockerfile, "COPY") or dockerfile.suffix == ".sglang"
    for copied in arguments(dockerfile, "COPY"):
        *sources, _ = [word for word in copied.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in ignored


@pytest.mark.parametrize("heavy", [".venv", ".git", "runs", "**/__pycache__"])
def test_what_no_image_needs_stays_out_of_the_build(heavy: str) -> None:
    assert heavy in (ROOT / ".dockerignore").read_text().split("\n")


def test_a_container_says_whether_it_is_well(dockerfile: Path) -> None:
    (check,) = arguments(dockerfile, "HEALTHCHECK")
    (command,) = re.findall(r"CMD (\[.*\])", check)
    assert json.loads(command)[0] in ("python", "curl")


def test_the_modules_that_images_run_exist(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    run = set(re.findall(r"python -m ([\w.]+)", text)) | set(re.findall(r'"python", "-m", "([\w.]+)"', text))
    others = {"venv", "sglang.launch_server"}  # Python's own, and that of a package which is not installed here
    assert run
    assert [name for name in run - others if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", ["Dockerfile.cpu", "Dockerfile.sglang", "Dockerfile.train", "compose.yaml"])
def test_the_trainings_and_files_that_comments_name_exist(file: str) -> None:
    comments = re.findall(r"^#(.*)", (ROOT / "docker" / file).read_text(), re.MULTILINE)
    text = "\n".join(comments).replace("\\\n", " ")
    findings = Findings(file)
    for training in re.findall(r"python train_\w+\.py [^\n]*", text):
        check_training(findings, "comment", training.split())
    assert findings.faults == []
    named = re.findall(r"(?<![\w/])((?:docker|docs|recipes)/[\w./]+\w)", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.slow
def test_the_system_packages_have_names_that_debian_knows(dockerfile: Path) -> None:
    """Ubuntu's have the same; asks the lists that this machine holds."""
    if (apt := shutil.which("apt-cache")) is None or not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        pytest.skip("there are no lists of packages: apt-get update")
    text = " ".join(arguments(dockerfile, "RUN"))
    packages = re.findall(r"--no-install-recommends ([\w+. -]+?) +&&", text)[0].split()
    assert len(packages) > 1
    for package in packages:
        done = subprocess.run([apt, "show", package], capture_output=True, text=True, timeout=60)
        assert f"Package: {package}\n" in done.stdout, package


def test_sglang_has_the_version_that_its_extra_names() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["sglang"][0] in (ROOT / "docker/Dockerfile.sglang").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        ("-c", "constraints.txt", "--extra", "gpu", "--extra", "cloud", "pyproject.toml"),
        ("-",),
    ],
    ids=["train", "sglang"],  # the CPU image installs what setup.sh does
)
def test_what_an_image_installs_can_be_resolved(wanted: tuple[str, ...]) -> None:
    """As uv would on the image's Python; asks the package index that uv is set up with."""
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "pip", "compile", "--quiet", "--python-version", "3.12"]
    command += ["--python-platform", "x86_64-manylinux_2_35", *wanted]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    done = subprocess.run(command, cwd=ROOT, input=extras["sglang"][0], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def test_the_services_listen_on_loopback_alone_and_are_pinned_and_checked() -> None:
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert re.search(r":(cpu|v?\d+\.\d+\.\d+)$", service["image"]), name
        assert name in ("head", "worker") or "healthcheck" in service


KEYS = {
    *("image", "user", "command", "environment", "ports", "volumes", "tmpfs", "shm_size", "init", "restart"),
    *("stop_grace_period", "healthcheck", "depends_on"),
}


def test_the_services_are_written_in_words_that_compose_knows_and_want_their_secrets() -> None:
    text = (ROOT / "docker/compose.yaml").read_text()
    assert {"head", "worker", "prometheus", "grafana"} == compose()["services"].keys()
    for name, service in compose()["services"].items():
        assert service.keys() <= KEYS, name
        assert set(service.get("depends_on", [])) <= compose()["services"].keys()
        volumes = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("..")}
        assert volumes <= compose()["volumes"].keys()
        assert service.get("user", "1000:1000") != "0:0"
    assert (
        set(re.findall(r"\$\{(\w+):\?", text))
        == set(re.findall(r"\$\{(\w+)", text))
        == {"RAY_TOKEN", "GRAFANA_PASSWORD"}
    )


@pytest.mark.slow
def test_what_the_services_mount_exists_and_their_ray_commands_are_known() -> None:
    for service in compose()["services"].values():
        local = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("..")]
        assert all((ROOT / "docker" / path).exists() for path in local)
        if isinstance(service.get("command"), str):
            findings = Findings("compose.yaml")
            check_shell(findings, "command", service["command"])
            assert findings.faults == []


@pytest.mark.slow
def test_the_script_that_writes_digests_replaces_every_tag_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    shutil.copytree(ROOT / "docker", folder)
    stand_in = tmp_path / "docker-command"
    stand_in.mkdir()
    (stand_in / "docker").write_text(f"#!/bin/sh\necho sha256:{'0' * 64}\n")
    (stand_in / "docker").chmod(0o755)
    environment = {"PATH": f"{stand_in}:/usr/bin:/bin"}
    subprocess.run([str(folder / "write_digests.sh")], env=environment, check=True, capture_output=True, timeout=60)
    bases = [base for path in folder.glob("Dockerfile.*") for base in arguments(path, "FROM")]
    images = [
        service["image"] for service in yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    ]
    assert all("@sha256:" in image for image in (*bases, *images) if not image.startswith("autodriverl"))


@pytest.mark.slow
def test_what_is_written_in_a_container_is_its_owners_alone(dockerfile: Path, tmp_path: Path) -> None:
    (entrypoint,) = arguments(dockerfile, "ENTRYPOINT")
    written = tmp_path / "auth_token"
    command = json.loads(entrypoint)
    command[2] = command[2].partition("&& exec")[0] + '&& exec "$@"'  # in place of a server: what it would write
    subprocess.run([*command, "touch", str(written)], check=True, timeout=60)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
