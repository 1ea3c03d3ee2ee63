"""Rows that papers publish, to stand beside one's own. Figures as printed there; nothing here was measured by us.

Every table was made with its own judge, prompts and images: rows of two papers, or of a paper and a run of ours with
another judge, say nothing about each other.
"""

from __future__ import annotations

PublishedRow = tuple[str, tuple[float | None, ...]]
"""A model with its source, and its figures in the order of the table's columns."""

OTHER_JUDGE = (
    "The paper's rows are by its own judge, prompts and decoding; they compare with a run here only where all of these "
    "are the same."
)

BY_RULES = "This run was scored by rules, and the papers' rows by a judge: they do not compare. {0}"
"""Of a table whose own row no judge scored."""

_SOURCE = "AutoDriveRL"

DRIVEBENCH_CLEAN_CORRUPTED: tuple[PublishedRow, ...] = (
    (f"DriveRX 8B ({_SOURCE}, Table 1)", (32.88, 29.92, 52.20, 48.29, 78.63, 75.53, 62.02, 55.24)),
    (f"Align-DS-V 8B ({_SOURCE}, Table 1)", (31.41, 27.78, 41.51, 37.86, 51.16, 57.66, 50.53, 40.98)),
    (f"Qwen2.5-VL 72B ({_SOURCE}, Table 1)", (37.56, 32.25, 54.89, 50.47, 77.18, 74.01, 55.57, 51.65)),
    (f"GPT-4o ({_SOURCE}, Table 1)", (41.51, 45.39, 52.28, 50.92, 84.82, 84.43, 55.04, 53.97)),
)
"""Perception, prediction, planning, behavior; of each the clean images' score, then the mean of 15 corruptions."""

DRIVELM_HARD: tuple[PublishedRow, ...] = (
    (f"DriveRX 8B ({_SOURCE}, Table 2)", (34.83, 71.84, 51.42, 36.82)),
    (f"Align-DS-V 8B ({_SOURCE}, Table 2)", (29.45, 52.90, 29.15, 32.48)),
    (f"Qwen2.5-VL 72B ({_SOURCE}, Table 2)", (32.49, 58.63, 50.55, 40.02)),
    (f"GPT-4o ({_SOURCE}, Table 2)", (36.12, 65.90, 51.42, 42.00)),
)
"""Perception, prediction, planning, behavior."""

DRIVEACTION: tuple[PublishedRow, ...] = (
    (f"DriveRX ({_SOURCE}, Table 16)", (88.09, 86.56, 87.17, 86.18)),
    (f"Align-DS-V ({_SOURCE}, Table 16)", (78.58, 77.32, 77.74, 76.67)),
    (f"GPT-4o ({_SOURCE}, Table 16)", (88.84, 84.72, 86.52, 81.01)),
)
"""Action accuracy in the modes V-L-A, V-A, L-A, A."""

OPEN_LOOP: tuple[PublishedRow, ...] = (
    (f"DriveRX-Agent ({_SOURCE}, Table 3)", (1.53, 1.12)),
    (f"DriveLM-Agent ({_SOURCE}, Table 3)", (1.39, 1.67)),
)
"""ADE (m) and collisions (%), means of 1, 2 and 3 s."""

BENCH2DRIVE: tuple[PublishedRow, ...] = (
    (f"DriveRX-VLA ({_SOURCE}, Table 4)", (72.36, 45.23, 138.47, 17.36)),
    (f"Orion ({_SOURCE}, Table 4)", (77.74, 54.62, 151.48, 17.38)),
    (f"UniAD-Base ({_SOURCE}, Table 4)", (45.81, 16.36, 129.21, 43.58)),
)
"""Driving score, success rate, efficiency, comfort."""

DRIVELMM_O1: tuple[PublishedRow, ...] = (("DriveLMM-o1 (DriveLMM-o1)", (75.24, 62.36)),)
"""Reasoning score, multiple-choice accuracy."""

BDD_OIA: tuple[PublishedRow, ...] = (
    ("SFT, toy test set (BDD-OIA report, Figure 5)", (43.42, 14.14)),
    ("A2C, toy test set (BDD-OIA report, Figure 5)", (42.92, 11.66)),
)
"""F1 over samples of actions and of reasons; about 400 frames, one action and one reason each, as strings."""
