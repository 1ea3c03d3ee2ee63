from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from data.corruptions.camera_tree import clips_of, read_camera_tree
from data.corruptions.cameras import cameras_hit
from data.corruptions.copy import Copy, corrupt_tree
from data.corruptions.corruption import CORRUPTIONS, corruption_named
from data.errors import DataError
from data.rendered.drawing import render_scene
from data.rendered.scene import build_scene
from data.sample import CAMERAS
from prepare_data import main

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "drivelm" / "nuscenes"
SCENE = "n008-2018-09-18-13-10-39-0400"
START = 1537291002250000
FRAMES = 3
QUICK = ("LowLight", "Rain", "CameraCrash", "FrameLost", "WaterSplashCorruption", "BitError")


def image_path(folder: Path, camera: str, frame: int, scene: str = SCENE) -> Path:
    time_us = START + 500_000 * frame + 7_000 * CAMERAS.index(camera)
    return folder / "samples" / camera / f"{scene}__{camera}__{time_us}.jpg"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of one scene, 160x113 pixels, beside what is not to be read."""
    folder = tmp_path_factory.mktemp("nuscenes")
    for frame in range(FRAMES):
        for camera, image in render_scene(build_scene(frame, seed=1)).items():
            path = image_path(folder, camera, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((160, 113)).save(path, quality=90)
    (folder / "samples" / "LIDAR_TOP").mkdir()
    (folder / "samples" / "LIDAR_TOP" / "a.pcd.bin").touch()
    (folder / "samples" / "CAM_FRONT" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def source(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the drawn frames that a test may damage."""
    for path in drawn.rglob("*.jpg"):
        to = tmp_path / "source" / path.relative_to(drawn)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    return tmp_path / "source"


def corrupt(source: Path, target: Path, *names: str, seed: int = 0, **options: Any) -> list[Copy]:
    return list(corrupt_tree(source, target, [corruption_named(name) for name in names], seed, **options))


def files_under(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_frame_is_its_six_cameras_and_a_clip_is_one_camera_of_a_scene(drawn: Path) -> None:
    tree = read_camera_tree(drawn)
    assert len(tree.images) == 6 * FRAMES
    assert tree.images == read_camera_tree(drawn / "samples").images
    frames = {frame: {i.camera for i in tree.images if i.frame == frame} for frame in {i.frame for i in tree.images}}
    assert frames == {str(START + 500_000 * frame): set(CAMERAS) for frame in range(FRAMES)}
    clips = clips_of(tree.images)
    assert [clip[0].camera for clip in clips] == list(CAMERAS)
    assert all([i.time for i in clip] == sorted(i.time for i in clip) and len(clip) == FRAMES for clip in clips)


def test_every_image_gets_a_copy_of_its_name_size_and_format_and_drivebench_s_folders(
    drawn: Path, tmp_path: Path
) -> None:
    copies = corrupt(drawn, tmp_path, *QUICK)
    assert [copy.folder for copy in copies] == [tmp_path / name for name in QUICK]
    expected = {str(path.relative_to(drawn / "samples")) for path in drawn.rglob("*.jpg")}
    for copy in copies:
        found = {str(path.relative_to(copy.folder)) for path in copy.folder.rglob("*.jpg")}
        assert found == expected
        assert (copy.written, copy.kept) == (18, 0)
        for name in expected:
            with Image.open(copy.folder / name) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 113))
    assert not list(tmp_path.rglob("*.partial"))


def test_the_manifest_says_what_was_done_with_what(drawn: Path, tmp_path: Path) -> None:
    bits, lost = corrupt(drawn, tmp_path, "BitError", "FrameLost", seed=4)
    manifest = json.loads((bits.folder / "manifest.json").read_text())
    assert manifest == bits.manifest
    assert (manifest["name"], manifest["severity"], manifest["seed"]) == ("BitError", 2, 4)
    assert manifest["parameters"] == {"amount": 50_000}
    assert manifest["complete"] is True
    assert {"numpy", "pillow", "av", "libavcodec"} <= set(manifest["libraries"])
    clips = [json.loads(path.read_text()) for path in (bits.folder / "clips").iterdir()]
    assert manifest["counts"] == {
        "corrupted": 18,
        "untouched": 0,
        "faulty": 0,
        "clips": 6,
        **{key: sum(clip[key] for clip in clips) for key in ("damaged_bytes", "damaged_frames", "repeated_frames")},
    }
    assert lost.manifest["counts"]["corrupted"] + lost.manifest["counts"]["untouched"] == 18


def test_cameras_that_are_left_alone_are_copied_byte_by_byte_and_lost_ones_are_black(
    drawn: Path, tmp_path: Path
) -> None:
    corrupt(drawn, tmp_path, "FrameLost", "CameraCrash", "WaterSplashCorruption", seed=2)
    for name in ("FrameLost", "CameraCrash", "WaterSplashCorruption"):
        states = set()
        for image in read_camera_tree(drawn).images:
            copied = (tmp_path / name / image.camera / image.path.name).read_bytes()
            hit = image.camera in cameras_hit(corruption_named(name), 2, image.scene, image.frame)
            states.add(hit)
            assert (copied == image.path.read_bytes()) != hit
            if hit and name != "WaterSplashCorruption":
                with Image.open(tmp_path / name / image.camera / image.path.name) as lost:
                    assert lost.getextrema() == ((0, 0),) * 3
        assert states == {True, False}


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes_and_another_seed_others(drawn: Path, tmp_path: Path) -> None:
    alone = corrupt(drawn, tmp_path / "one", *QUICK)
    two = corrupt(drawn, tmp_path / "two", *QUICK, workers=2)
    assert files_under(tmp_path / "one") == files_under(tmp_path / "two")
    assert [copy.manifest for copy in alone] == [copy.manifest for copy in two]
    corrupt(drawn, tmp_path / "other", "LowLight", seed=1)
    one, other = files_under(tmp_path / "one" / "LowLight"), files_under(tmp_path / "other" / "LowLight")
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize("name", ["LowLight", "H256ABRCompression", "WaterSplashCorruption"])
def test_a_copy_that_was_stopped_goes_on_and_ends_the_same(drawn: Path, tmp_path: Path, name: str) -> None:
    (whole,) = corrupt(drawn, tmp_path / "whole", name)

    def stop(_: str, done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corrupt(drawn, tmp_path / "stopped", name, progress=stop)
    there = set(files_under(tmp_path / "stopped"))
    assert json.loads((tmp_path / "stopped" / name / "manifest.json").read_text())["complete"] is False
    assert 9 <= len([path for path in there if path.endswith(".jpg")]) < 18
    seen: list[int] = []
    (resumed,) = corrupt(drawn, tmp_path / "stopped", name, progress=lambda _, done, total: seen.append(done))
    assert (resumed.written, resumed.kept) == (9, 9)
    assert (seen[0], seen[-1]) == (9, 18)
    assert resumed.manifest == whole.manifest
    assert files_under(tmp_path / "stopped") == files_under(tmp_path / "whole")
    (again,) = corrupt(drawn, tmp_path / "stopped", name)
    assert (again.written, again.kept, again.manifest) == (0, 18, whole.manifest)


@pytest.mark.slow
def test_killed_outright_it_goes_on_and_no_worker_stays_behind(drawn: Path, tmp_path: Path) -> None:
    corrupt(drawn, tmp_path / "whole", "Snow")
    arguments = (sys.executable, "prepare_data.py", "corrupt", str(drawn), str(tmp_path / "killed"), "--workers", "2")
    script = "import sys, prepare_data; sys.exit(prepare_data.main(sys.argv[3:]))"
    command = [arguments[0], "-c", script, *arguments, "--corruption", "Snow"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _until(lambda: any((tmp_path / "killed").rglob("*.jpg")) or process.poll() is not None)
    children = _descendants(process.pid)
    process.kill()
    process.wait()
    _until(lambda: not any(_is_alive(child) for child in children))
    (resumed,) = corrupt(drawn, tmp_path / "killed", "Snow", workers=2)
    assert resumed.kept >= 1
    assert files_under(tmp_path / "killed") == files_under(tmp_path / "whole")


def _until(true: Callable[[], bool], timeout_s: float = 600) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [further for child in children for further in _descendants(child)]


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("name", ["Rain", "FrameLost", "BitError"])
def test_images_that_cannot_be_used_are_named_and_left_out(source: Path, tmp_path: Path, name: str) -> None:
    cut = image_path(source, "CAM_BACK", 1)
    cut.write_bytes(cut.read_bytes()[:900])
    (source / "samples" / "CAM_FRONT" / "holiday.jpg").write_bytes(cut.read_bytes())
    (copy,) = corrupt(source, tmp_path / "out", name)
    assert (copy.written, copy.kept) == (17, 0)
    assert copy.manifest["counts"]["faulty"] == 2
    assert set(copy.manifest["faults"]) == {str(cut), str(source / "samples" / "CAM_FRONT" / "holiday.jpg")}
    assert "is truncated or damaged" in copy.manifest["faults"][str(cut)]
    assert "is not named SCENE__CAM_FRONT__MICROSECONDS.jpg" in " ".join(copy.manifest["faults"].values())
    assert not (tmp_path / "out" / name / "CAM_BACK" / cut.name).exists()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_strict_stops_at_the_first_image_that_cannot_be_used(source: Path, tmp_path: Path, workers: int) -> None:
    cut = image_path(source, "CAM_BACK", 1)
    cut.write_bytes(cut.read_bytes()[:900])
    with pytest.raises(DataError, match=rf"{cut.name} is truncated or damaged"):
        corrupt(source, tmp_path / "out", "ColorQuant", strict=True, workers=workers)


def test_a_frame_of_another_size_leaves_its_clip_and_a_clip_without_frames_is_counted(
    source: Path, tmp_path: Path
) -> None:
    wide = image_path(source, "CAM_BACK", 2)
    Image.new("RGB", (200, 120)).save(wide)
    for frame in range(FRAMES):
        image_path(source, "CAM_BACK_LEFT", frame).write_bytes(b"nothing")
    (copy,) = corrupt(source, tmp_path / "out", "BitError")
    assert (
        "has another size (200x120 pixels) than the first of its clip (160x113)" in copy.manifest["faults"][str(wide)]
    )
    assert copy.manifest["counts"] | {"damaged_bytes": 0, "damaged_frames": 0} == {
        "corrupted": 14,
        "untouched": 0,
        "faulty": 4,
        "clips": 6,
        "damaged_bytes": 0,
        "damaged_frames": 0,
        "repeated_frames": 0,
    }


def test_an_image_mended_afterwards_is_added(source: Path, tmp_path: Path) -> None:
    cut = image_path(source, "CAM_BACK", 1)
    whole = cut.read_bytes()
    cut.write_bytes(whole[:900])
    corrupt(source, tmp_path / "out", "Rain", "BitError")
    cut.write_bytes(whole)
    rain, bits = corrupt(source, tmp_path / "out", "Rain", "BitError")
    assert (rain.written, rain.kept) == (1, 17)
    assert (bits.written, bits.kept) == (3, 15)  # the frames of a clip depend on each other
    corrupt(source, tmp_path / "fresh", "Rain", "BitError")
    assert files_under(tmp_path / "out") == files_under(tmp_path / "fresh")


def test_png_stays_png_without_loss(tmp_path: Path) -> None:
    image = render_scene(build_scene(0, seed=1))["CAM_FRONT"]
    path = tmp_path / "source" / "CAM_FRONT" / "scene__CAM_FRONT.png"
    path.parent.mkdir(parents=True)
    image.save(path)
    corrupt(tmp_path / "source", tmp_path / "out", "ColorQuant")
    with Image.open(tmp_path / "out" / "ColorQuant" / "CAM_FRONT" / path.name) as copied:
        assert copied.format == "PNG"
        assert set(np.unique(np.asarray(copied)).tolist()) == {0, 128}


def test_a_folder_that_holds_another_copy_is_refused(drawn: Path, tmp_path: Path) -> None:
    corrupt(drawn, tmp_path, "ColorQuant")
    with pytest.raises(DataError, match="seed 0, not 1"):
        corrupt(drawn, tmp_path, "ColorQuant", seed=1)
    manifest = tmp_path / "ColorQuant" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"av": "', '"av": "0.'))
    with pytest.raises(DataError, match=r"av 0\.\d.*, not \d[\d.]*"):
        corrupt(drawn, tmp_path, "ColorQuant")
    manifest.unlink()
    with pytest.raises(DataError, match=r"ColorQuant holds files but no manifest.json"):
        corrupt(drawn, tmp_path, "ColorQuant")
    manifest.write_text("{")
    with pytest.raises(DataError, match=r"manifest.json is not the manifest of a copy"):
        corrupt(drawn, tmp_path, "ColorQuant")


def test_two_copies_are_not_written_to_one_folder_at_once(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "ColorQuant").mkdir()
    with (
        FileLock(tmp_path / "ColorQuant" / ".lock"),
        pytest.raises(DataError, match="another process is writing to .*ColorQuant"),
    ):
        corrupt(drawn, tmp_path, "ColorQuant")


@pytest.mark.parametrize("name", ["ColorQuant", "BitError"])
def test_a_tree_of_which_nothing_can_be_used_is_refused(tmp_path: Path, name: str) -> None:
    path = image_path(tmp_path / "source", "CAM_FRONT", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not an image")
    with pytest.raises(
        DataError, match=r"none of the 1 images under .*samples can be used; the first: image .*jpg cannot"
    ):
        corrupt(tmp_path / "source", tmp_path / "out", name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["corrupt", "{tmp}/gone", "{tmp}/out", "--corruption", "Fog"], "gone is not a folder"),
        (["corrupt", "{tmp}", "{tmp}/out", "--corruption", "Fog"], "has no images named CAM_*/SCENE__CAM_*"),
        (
            ["corrupt", "{drawn}", "{tmp}/out", "--corruption", "Frog"],
            "there is no corruption 'Frog'; did you mean Fog",
        ),
        (["corrupt", "{drawn}", "/dev/null", "--corruption", "Fog"], "cannot write to /dev/null/Fog: Not a directory"),
        (["corrupt", "{drawn}", "{tmp}/out", "--corruption", "Fog", "--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([argument.format(tmp=tmp_path, drawn=drawn) for argument in arguments]) == 2
    (refusal,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in refusal


def test_the_command_writes_all_15_and_prints_the_counts(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_frame = tmp_path / "source"
    for camera in CAMERAS:
        path = image_path(one_frame, camera, 0)
        path.parent.mkdir(parents=True)
        path.write_bytes(image_path(drawn, camera, 0).read_bytes())
    arguments = [
        "corrupt",
        str(one_frame),
        str(tmp_path / "out"),
        "--corruption",
        "all",
        "--workers",
        "1",
        "--seed",
        "5",
    ]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(printed["corruptions"]) == [corruption.name for corruption in CORRUPTIONS]
    assert all(counts["written"] == 6 and counts["faulty"] == 0 for counts in printed["corruptions"].values())
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all((counts["written"], counts["kept"]) == (0, 6) for counts in printed["corruptions"].values())


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the nuScenes images are not at {REAL}")
def test_the_real_tree_has_nine_frames_of_six_cameras() -> None:
    tree = read_camera_tree(REAL)
    frames = {(image.scene, image.frame) for image in tree.images}
    assert (len(tree.images), len(frames), len(clips_of(tree.images)), tree.faults) == (54, 9, 12, {})
    for frame in frames:
        assert {i.camera for i in tree.images if (i.scene, i.frame) == frame} == set(CAMERAS)
