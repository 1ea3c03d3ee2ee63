"""The Ray processes (rollout engines, learners, weight sync) and the loop that joins them."""

import os

os.environ.setdefault("DS_LOG_LEVEL", "ERROR")  # DeepSpeed reads it when imported; else it warns of every missing GPU
