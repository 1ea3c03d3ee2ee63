"""What every test, and every process it starts, runs under: no network, no user's cluster, one compute thread each."""

from __future__ import annotations

import os
import tempfile

# Before anything imports torch, ray or transformers: they read these once.
os.environ.pop("RAY_ADDRESS", None)  # a test must never join, nor stop, a cluster that it did not start
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["AUTODRIVERL_CHECKPOINT_KEY"] = f"{tempfile.gettempdir()}/autodriverl-tests-{os.getuid()}/checkpoint.key"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share the machine's few cores
