from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from data.images import ImageError, check_image, faulty_images, open_image
from data.sample import CAMERAS, DrivingSample


def write_image(path: Path, size: tuple[int, int] = (160, 90), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise(size, 80).convert(mode)  # noise: every byte of the file carries picture
    noise.save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.fixture
def sample(tmp_path: Path) -> DrivingSample:
    images: dict[str, str] = {camera: str(write_image(tmp_path / f"{camera}.jpg")) for camera in CAMERAS}
    return DrivingSample("s_f_0", "s", "f", "planning", "yes_no", "Is it?", "Yes.", images)


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "L"), ("png", "RGBA"), ("png", "P"), ("jpg", "RGB")])
def test_any_image_is_read_as_rgb(tmp_path: Path, suffix: str, mode: str) -> None:
    image = open_image(write_image(tmp_path / f"a.{suffix}", mode=mode))
    assert (image.mode, image.size) == ("RGB", (160, 90))


@pytest.mark.parametrize("read", [open_image, check_image])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, read: object, suffix: str, share: float) -> None:
    path = truncate(write_image(tmp_path / f"cut.{suffix}", size=(640, 360)), share)
    with pytest.raises(ImageError, match=rf"cut\.{suffix} is truncated or damaged"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("read", [open_image, check_image])
def test_a_missing_file_a_folder_and_a_text_file_are_refused_by_name(tmp_path: Path, read: object) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    for name, reason in [
        ("gone.jpg", "does not exist or is not a file"),
        ("", "does not exist or is not a file"),
        ("notes.jpg", "cannot be read as an image"),
        ("empty.jpg", "cannot be read as an image"),
    ]:
        with pytest.raises(ImageError, match=reason) as caught:
            read(tmp_path / name)  # type: ignore[operator]
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_image_over_the_pixel_cap_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = truncate(write_image(tmp_path / "bomb.png", size=(300, 200)), 0.5)
    with pytest.raises(ImageError, match=r"bomb\.png .*300x200 .*50000"):
        open_image(path, max_pixels=50_000)


def test_a_small_file_that_claims_billions_of_pixels_is_refused(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))))
    with pytest.raises(ImageError, match=r"bomb\.png has more than the \d+ pixels"):
        open_image(path)


def test_checking_many_images_reports_only_the_broken_ones(sample: DrivingSample) -> None:
    broken = str(truncate(Path(sample.images["CAM_FRONT"])))
    assert list(faulty_images([*sample.images.values(), broken])) == [broken]
