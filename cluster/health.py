"""`python -m cluster.health`: whether the Ray node of this container answers; what the images' health checks call.

Exit status 0: Ray runs here and its control plane answers, or no Ray was started here; 1: it does not answer.
"""

from __future__ import annotations

import subprocess
import sys

import psutil

TIMEOUT_S = 10


def control_plane() -> str | None:
    """The address of the cluster that a raylet of this machine belongs to; None where none runs here."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("raylet"):
            for word in words:
                if word.startswith("--gcs-address="):
                    return word.partition("=")[2]
    return None


def main() -> int:
    """Ask the control plane; returns the exit status."""
    address = control_plane()
    if address is None:
        return 0
    command = ["ray", "health-check", "--address", address]
    return min(1, subprocess.run(command, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S).returncode)


if __name__ == "__main__":
    sys.exit(main())
