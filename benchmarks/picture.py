"""The picture of a run's report in the README, made anew by a headless Chromium.

    python -m benchmarks.picture runs/demo-20260101-120000

Writes docs/report.png: the report's beginning. CHROMIUM=/path names the browser where none is on the PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation.pages.run_report import write_report

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1100, 1450
"""Pixels: the page's narrowest full layout, down to the first answer."""
TIMEOUT_S = 120.0


def main() -> None:
    """Write the report of a run folder anew, and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run folder")
    page = write_report(parser.parse_args().run.resolve())
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no Chromium is on the PATH: install one, or name it with CHROMIUM=/path/to/chromium")
    with tempfile.TemporaryDirectory(prefix="picture-") as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-extensions"]
        command += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={PICTURE}"]
        subprocess.run([*command, page.as_uri()], check=True, timeout=TIMEOUT_S, stderr=subprocess.DEVNULL)
    print(PICTURE)


if __name__ == "__main__":
    main()
